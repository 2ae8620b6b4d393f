import json
from pathlib import Path

import pytest

from services.sources import resolve, write_manifest
from services.sources.checkpoint import check_folder, needed, wanted
from services.sources.errors import IntegrityError, SourceNotFound, UnsafeSource
from tests.unit.sources.material import checkpoint_files, write_files


def resolved(folder: Path, files: dict[str, bytes]) -> Path:
    write_manifest(write_files(folder, files))
    return resolve(f"file://{folder}", folder / ".home")


def test_a_local_folder_with_a_manifest_is_used_in_place(tmp_path: Path) -> None:
    assert resolved(tmp_path, checkpoint_files()) == tmp_path


def test_a_relative_folder_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(write_files(tmp_path / "model", checkpoint_files()))
    monkeypatch.chdir(tmp_path)
    assert resolve("file://model", tmp_path / "home") == tmp_path / "model"


def test_a_local_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, checkpoint_files())
    with pytest.raises(IntegrityError, match=f"castalia manifest {tmp_path}"):
        resolve(f"file://{tmp_path}", tmp_path / "home")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="absent is not a folder"):
        resolve(f"file://{tmp_path}/absent", tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "data.pkl"])
def test_weights_only_as_pickle_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeSource, match="only as pickle"):
        resolved(tmp_path, {"config.json": b"{}", name: b"x"})


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "text_encoder/config.json"])
def test_a_configuration_that_asks_for_remote_code_is_refused(tmp_path: Path, name: str) -> None:
    remote = json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}).encode()
    with pytest.raises(UnsafeSource, match="auto_map"):
        resolved(tmp_path, checkpoint_files() | {name: remote})


def test_weights_without_a_configuration_are_refused(tmp_path: Path) -> None:
    files = checkpoint_files()
    del files["config.json"]
    with pytest.raises(SourceNotFound, match=r"config\.json"):
        resolved(tmp_path, files)


def adapter_files() -> dict[str, bytes]:
    weights = checkpoint_files()["model.safetensors"]
    return {"adapter_config.json": b"{}", "adapter_model.safetensors": weights, "README.md": b"text"}


def test_an_adapters_folder_is_verified_like_any_other(tmp_path: Path) -> None:
    assert resolved(tmp_path, adapter_files()) == tmp_path
    assert needed(adapter_files(), None) == ["adapter_config.json", "adapter_model.safetensors"]
    (tmp_path / "adapter_model.safetensors").write_bytes(checkpoint_files()["model.safetensors"][:-1] + b"!")
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors is not the file"):
        resolve(f"file://{tmp_path}", tmp_path / ".home")


def test_an_adapter_only_as_pickle_is_refused(tmp_path: Path) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.bin": b"x"}
    with pytest.raises(UnsafeSource, match="only as pickle"):
        resolved(tmp_path, files)


def diffusers_files(**index: object) -> dict[str, bytes]:
    parts = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "safety_checker": [None, None]}
    weights = checkpoint_files()["model.safetensors"]
    return {
        "model_index.json": json.dumps(parts | index).encode(),
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": weights,
        "scheduler/scheduler_config.json": b"{}",
    }


def test_a_diffusers_folder_needs_no_config_of_its_own(tmp_path: Path) -> None:
    assert resolved(tmp_path, diffusers_files()) == tmp_path


def test_a_part_with_weights_only_as_pickle_is_refused(tmp_path: Path) -> None:
    files = diffusers_files(vae=["diffusers", "AutoencoderKL"])
    with pytest.raises(UnsafeSource, match="vae has weights only as pickle"):
        resolved(tmp_path, files | {"vae/diffusion_pytorch_model.bin": b"x"})


@pytest.mark.parametrize("name", ["v1-5-pruned.ckpt", "unused/model.bin"])
def test_pickles_that_no_part_is_read_from_do_no_harm(tmp_path: Path, name: str) -> None:
    assert resolved(tmp_path, diffusers_files() | {name: b"x"}) == tmp_path


def test_a_safety_checker_is_ignored_as_it_is_never_loaded(tmp_path: Path) -> None:
    files = diffusers_files(safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert resolved(tmp_path, files | {"safety_checker/pytorch_model.bin": b"x"}) == tmp_path


@pytest.mark.parametrize(
    "index",
    [
        {"unet": ["unet_custom", "MyUNet"]},
        {"_class_name": ["pipeline_custom", "MyPipeline"]},
    ],
)
def test_a_diffusers_folder_with_code_of_its_own_is_refused(tmp_path: Path, index: dict[str, object]) -> None:
    with pytest.raises(UnsafeSource, match="never run here"):
        resolved(tmp_path, diffusers_files(**index))


def test_a_part_whose_configuration_asks_for_remote_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeSource, match="auto_map"):
        resolved(tmp_path, diffusers_files() | {"unet/config.json": b'{"auto_map": {}}'})


@pytest.mark.parametrize(
    ("name", "fetched"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("unet/config.json", True),
        ("merges.txt", True),
        ("chat_template.jinja", True),
        ("pytorch_model.bin", False),
        ("modeling_custom.py", False),
        ("notes.txt", False),
        ("model.onnx", False),
    ],
)
def test_only_safe_and_needed_files_are_fetched(name: str, fetched: bool) -> None:
    assert wanted(name) is fetched


def test_a_built_in_model_is_found_in_the_folder_of_its_family(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "gan" / "weights" / "digits", checkpoint_files())
    write_manifest(folder)
    assert resolve("builtin://digits", tmp_path / "home", families=tmp_path) == folder


def test_an_unknown_built_in_model_names_those_that_exist(tmp_path: Path) -> None:
    (tmp_path / "gan" / "weights" / "digits").mkdir(parents=True)
    with pytest.raises(SourceNotFound, match=r"'letters'; built in: digits"):
        resolve("builtin://letters", tmp_path / "home", families=tmp_path)


def test_a_damaged_built_in_model_is_refused(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "gan" / "weights" / "digits", checkpoint_files())
    write_manifest(folder)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(IntegrityError):
        resolve("builtin://digits", tmp_path / "home", families=tmp_path)


def test_of_a_diffusers_repository_only_the_parts_of_its_index_are_fetched_and_in_one_precision() -> None:
    """The names are those of stabilityai/stable-diffusion-xl-base-1.0, and of a text encoder in shards."""
    read = [
        "model_index.json",
        "LICENSE.md",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model-00001-of-00003.safetensors",
        "text_encoder/model.safetensors.index.json",
        "vae/only_in_half.fp16.safetensors",
    ]
    left = [
        "sd_xl_base_1.0.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "vae_1_0/diffusion_pytorch_model.safetensors",
        "vae_encoder/config.json",
        "safety_checker/model.safetensors",
    ]
    assert needed([*read, *left], {"unet", "text_encoder", "vae"}) == read


def test_without_an_index_every_folder_is_fetched() -> None:
    names = ["config.json", "model.safetensors", "onnx/config.json"]
    assert needed([*names, "model.fp16.safetensors"], None) == names


def test_a_link_to_a_folder_is_refused_as_what_is_behind_it_is_not_hashed(tmp_path: Path) -> None:
    elsewhere = write_files(tmp_path / "elsewhere", {"model.safetensors": b"x"})
    folder = write_files(tmp_path / "model", checkpoint_files())
    (folder / "unet").symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="symbolic link"):
        check_folder(folder)


def test_a_voice_is_a_graph_with_its_configuration_beside_it(tmp_path: Path) -> None:
    assert resolved(tmp_path / "voice", {"a.onnx": b"x", "a.onnx.json": b"{}"}) == tmp_path / "voice"
    with pytest.raises(SourceNotFound, match=r"no \*\.onnx with \*\.onnx\.json beside it"):
        resolved(tmp_path / "graph", {"a.onnx": b"x", "config.json": b"{}"})


def test_a_graph_that_is_a_copy_of_the_weights_is_not_fetched() -> None:
    names = ["config.json", "model.safetensors", "onnx/model.onnx", "en/voice.onnx", "en/voice.onnx.json"]
    assert needed(names, None) == ["config.json", "model.safetensors", "en/voice.onnx", "en/voice.onnx.json"]
