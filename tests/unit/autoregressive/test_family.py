"""The family's entry: what a folder of weights becomes, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.families import LoadedModel, family_loader
from services.families.autoregressive.family import load
from services.nn.errors import UnsupportedModel
from services.nn.weights import CONFIG
from shared.config.autoregressive import WaveSoundModel, WaveSpeechModel
from shared.config.models import FleetConfig
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest
from tests.contract.driver import run_rows
from tests.unit.autoregressive.tiny import WORDS, make_folder, make_model, sound_config, speech_config


def test_a_loaded_model_says_what_it_does_and_counts_its_memory(
    loaded_words: LoadedModel, loaded_drums: LoadedModel
) -> None:
    assert set(loaded_words.tasks) == set(WaveSpeechModel.TASKS) == {"speech"}
    assert set(loaded_drums.tasks) == set(WaveSoundModel.TASKS) == {"sound"}
    common = {"sample_rate": 8000, "max_frames": 60, "frames_per_second": 2000, "max_batch_size": 16}
    assert loaded_words.limits == {**common, "max_words": 64}
    assert loaded_drums.limits == common
    assert loaded_words.memory > sum(parameter.nbytes for parameter in make_model().parameters())


def test_memory_grows_with_the_batch(words_folder: Path) -> None:
    small, large = (load(speech_config(words_folder, max_batch_size=n), words_folder).memory for n in (1, 64))
    assert large > small


def test_a_model_of_another_kind_than_configured_is_refused(words_folder: Path, drums_folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="must say `kind: sound`"):
        load(speech_config(drums_folder), drums_folder)
    with pytest.raises(UnsupportedModel, match="must say `kind: speech`"):
        load(sound_config(words_folder), words_folder)


@pytest.mark.parametrize(
    ("change", "match"), [({"model_type": "castalia-gan"}, "model_type"), ({"channels": 7}, "do not fit")]
)
def test_weights_of_another_shape_are_refused(tmp_path: Path, change: dict[str, object], match: str) -> None:
    make_folder(tmp_path, WORDS)
    (tmp_path / CONFIG).write_text(json.dumps(json.loads((tmp_path / CONFIG).read_text()) | change))
    with pytest.raises(UnsupportedModel, match=match):
        load(speech_config(tmp_path), tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lower_precision_speaks_too(words_folder: Path, dtype: str) -> None:
    model = load(speech_config(words_folder, dtype=dtype), words_folder)
    request = SpeechRequest.model_validate({"model": "m", "input": "1 2", "voice": "ann", "seed": 1})
    chunks = run_rows(model.sampler, model.tasks["speech"].prepare(request)).chunks(1)
    assert sum(len(chunk.samples) for chunk in chunks) > 0


def test_the_bound_of_a_request_is_what_its_rows_cost_at_most(
    loaded_words: LoadedModel, loaded_drums: LoadedModel, words_folder: Path, drums_folder: Path
) -> None:
    said = SpeechRequest.model_validate({"model": "m", "input": "1 2 a", "voice": "ann"})
    (row,) = loaded_words.tasks["speech"].prepare(said)
    assert row.cost <= speech_config(words_folder).cost_bound(said, loaded_words.limits) == 5 * 60
    sounds = AudioGenerationRequest.model_validate({"model": "m", "prompt": "1", "n": 3, "seconds": 0.01})
    rows = loaded_drums.tasks["sound"].prepare(sounds)
    bound = sound_config(drums_folder).cost_bound(sounds, loaded_drums.limits)
    assert bound == sum(row.cost for row in rows) == 3 * 20
    long = said.model_copy(update={"input": "a " * 2000})
    assert speech_config(words_folder).cost_bound(long, {}) == 64 * 400, "no request has more words than may be said"


def test_models_yaml_tells_words_and_sounds_apart() -> None:
    models = [
        {"id": "a", "source": "builtin://a", "kind": "speech"},
        {"id": "b", "source": "builtin://b", "kind": "sound"},
    ]
    config = FleetConfig.model_validate({"services": [{"name": "w", "family": "autoregressive", "models": models}]})
    assert [model.does for model in config.hosted[0].models] == [("speech",), ("sound",)]


def test_the_table_of_families_leads_here() -> None:
    assert family_loader("autoregressive") is load
