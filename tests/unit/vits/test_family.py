"""The family's entry: what a folder with a voice becomes, what a machine may lack, which folders are refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from services.app import load_fleet_config
from services.families import family_loader
from services.families.vits.family import load
from services.nn.errors import UnsupportedModel
from services.sources import resolve, write_manifest
from shared.config.vits import VitsModel
from shared.schemas.audio import SpeechRequest
from tests.contract.driver import run_rows
from tests.unit.vits.test_phonemes import program
from tests.unit.vits.tiny import CONFIG, write_voice

EXAMPLE = Path(__file__).parents[3] / "docs/examples/speech.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_voice(tmp_path / "voice")
    write_manifest(tmp_path / "voice")
    return tmp_path / "voice"


@pytest.fixture
def config(folder: Path) -> VitsModel:
    return VitsModel(id="tiny", source=f"file://{folder}", voice="tiny")


@pytest.fixture
def espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of its name that says letters."""
    program(tmp_path, "tr A-Z a-z")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.usefixtures("espeak")
def test_a_verified_folder_becomes_a_model_that_speaks(config: VitsModel, tmp_path: Path) -> None:
    model = load(config, resolve(config.source, tmp_path / "home"))
    assert set(model.tasks) == set(VitsModel.TASKS) == {"speech"}
    assert model.limits == {
        "sample_rate": 8000,
        "max_phonemes": 8192,
        "max_sentence_phonemes": 200,
        "max_batch_size": 8,
    }
    request = SpeechRequest.model_validate({"model": "tiny", "input": "Hello you. Bye!", "voice": "tiny", "seed": 1})
    chunks = run_rows(model.sampler, model.tasks["speech"].prepare(request)).chunks(1)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert len(samples) > 0.2 * 8000
    assert np.abs(samples).max() > 1000


@pytest.mark.usefixtures("espeak")
def test_memory_grows_with_the_batch(config: VitsModel, folder: Path) -> None:
    small, large = (load(config.model_copy(update={"max_batch_size": n}), folder).memory for n in (1, 64))
    assert large > small


def test_without_espeak_a_load_says_what_to_install(
    config: VitsModel, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UnsupportedModel, match="apt install espeak-ng"):
        load(config, folder)


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_a_load_says_what_to_install(
    config: VitsModel, folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("services.families.vits.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # what an import of it finds
    with pytest.raises(UnsupportedModel, match=rf"package {package} is missing: .*castalia\[speech\]"):
        load(config, folder)


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_speakers": 2}, "num_speakers"),
        ({"phoneme_type": "text"}, "phoneme_type"),
        ({"espeak": {"voice": "en-us; rm"}}, r"espeak\.voice"),
        ({"espeak": {"voice": "--path=x"}}, r"espeak\.voice"),
        ({"audio": {"sample_rate": 0}}, r"audio\.sample_rate"),
        ({"phoneme_id_map": {"a": [1]}}, "lacks"),
        ({"phoneme_id_map": {**CONFIG["phoneme_id_map"], "a": []}}, r"phoneme_id_map\.a"),
    ],
)
def test_a_configuration_of_another_kind_of_voice_is_refused(
    config: VitsModel, folder: Path, changes: dict[str, Any], message: str
) -> None:
    (folder / "tiny.onnx.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(UnsupportedModel, match=message):
        load(config, folder)


@pytest.mark.usefixtures("espeak")
def test_a_folder_without_one_whole_voice_is_refused(config: VitsModel, folder: Path) -> None:
    (folder / "tiny.onnx.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"tiny\.onnx\.json is not beside"):
        load(config, folder)
    write_voice(folder / "more").rename(folder / "other.onnx")
    with pytest.raises(UnsupportedModel, match="has 2 graphs"):
        load(config, folder)


@pytest.mark.parametrize("fields", [{"device": "cuda"}, {"dtype": "float16"}, {"voice": ""}])
def test_models_yaml_says_what_can_be(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        VitsModel.model_validate({"id": "a", "source": "file://x", "voice": "a", **fields})


def test_the_example_is_a_fleet_with_a_voice_that_states_its_licence() -> None:
    (service,) = load_fleet_config(EXAMPLE).hosted
    (model,) = service.models
    assert (service.family, service.replicas.min, model.does) == ("vits", 0, ("speech",))
    assert model.license == "CC0-1.0"


def test_the_table_of_families_leads_here() -> None:
    assert family_loader("vits") is load
