import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.sources import resolve
from services.sources.errors import FetchFailed, FileChanged, SourceNotFound, UnsafeSource
from tests.unit.sources.hub_server import COMMIT, HEAD, REPO, HubServer
from tests.unit.sources.material import checkpoint_files


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    more = {"pytorch_model.bin": b"pickle", "modeling.py": b"code", "README.md": b"text", "unet/config.json": b"{}"}
    with HubServer(checkpoint_files() | more) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("revision", [COMMIT, "v1.0"])
def test_a_commit_or_a_tag_gives_the_safe_files_alone(tmp_path: Path, hub: HubServer, revision: str) -> None:
    folder = resolve(f"hf://{REPO}@{revision}", tmp_path)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"config.json", "model.safetensors", "unet/config.json", "manifest.json"}
    assert set(hub.downloads) == names - {"manifest.json"}


def test_progress_counts_the_bytes_of_every_fetched_file(tmp_path: Path, hub: HubServer) -> None:
    hub.files["model.safetensors"] = hub.served["model.safetensors"] = bytes(25_000_000)  # more than one chunk
    seen: list[tuple[str, int, int | None]] = []
    resolve(f"hf://{REPO}@{COMMIT}", tmp_path, progress=lambda *step: seen.append(step))
    downloading = [(done, total) for stage, done, total in seen if stage.startswith("downloading")]
    size = sum(len(hub.files[name]) for name in ("config.json", "model.safetensors", "unet/config.json"))
    assert downloading == sorted(downloading)
    assert {total for _, total in downloading} == {size}
    assert downloading[-1] == (size, size)
    within = {done for stage, done, _ in seen if stage == "downloading model.safetensors"}
    assert len(within) > 2, "a large file must move the bar while it comes"


def test_the_second_resolve_needs_no_hub(tmp_path: Path, hub: HubServer) -> None:
    first = resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    hub.files.clear()
    hub.served.clear()
    assert resolve(f"hf://{REPO}@{COMMIT}", tmp_path) == first


def test_a_branch_is_refused_and_its_commit_of_today_named(tmp_path: Path, hub: HubServer) -> None:
    with pytest.raises(UnsafeSource, match=f"hf://{REPO}@{HEAD}"):
        resolve(f"hf://{REPO}@main", tmp_path)


@pytest.mark.parametrize("source", [f"hf://{REPO}@v9", f"hf://{REPO}@{'c' * 40}", "hf://owner/absent@v1.0"])
def test_what_the_hub_does_not_have_is_not_found(tmp_path: Path, hub: HubServer, source: str) -> None:
    with pytest.raises(SourceNotFound):
        resolve(source, tmp_path)


@pytest.mark.parametrize("revision", [COMMIT, "v1.0"])
def test_a_hub_that_does_not_answer_is_told_from_a_missing_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(FetchFailed):
            resolve(f"hf://{REPO}@{revision}", tmp_path)


def test_weights_that_differ_from_the_hubs_own_sum_are_refused_and_not_kept(tmp_path: Path, hub: HubServer) -> None:
    hub.served["model.safetensors"] = hub.files["model.safetensors"][:-1] + b"!"
    with pytest.raises(FileChanged, match=r"model\.safetensors"):
        resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    hub.served["model.safetensors"] = hub.files["model.safetensors"]
    folder = resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_broken_off_download_goes_on_with_the_files_that_are_missing(tmp_path: Path, hub: HubServer) -> None:
    hub.broken.add("unet/config.json")
    with pytest.raises(FetchFailed):
        resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))
    hub.broken.clear()
    resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    assert hub.downloads["model.safetensors"] == 1


def test_a_repository_with_only_pickled_weights_is_refused_before_any_download(tmp_path: Path, hub: HubServer) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(UnsafeSource, match="only as pickle"):
        resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    assert not hub.downloads


def test_a_diffusers_repository_is_fetched_by_its_index(tmp_path: Path, hub: HubServer) -> None:
    weights = checkpoint_files()["model.safetensors"]
    parts = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "safety_checker": [None, None]}
    files = {
        "model_index.json": json.dumps(parts).encode(),
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": weights,
        "unet/diffusion_pytorch_model.fp16.safetensors": weights,
        "vae_1_0/diffusion_pytorch_model.safetensors": weights,
        "whole.safetensors": weights,
        "whole.ckpt": b"pickle",
    }
    hub.files, hub.served = dict(files), dict(files)
    folder = resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {*list(files)[:3], "manifest.json"}
    assert hub.downloads.keys() == set(list(files)[:3])
    assert hub.downloads["model_index.json"] == 1


def test_a_diffusers_repository_that_asks_for_code_is_refused_before_its_weights(
    tmp_path: Path, hub: HubServer
) -> None:
    files = {
        "model_index.json": json.dumps({"_class_name": "P", "unet": ["unet_custom", "MyUNet"]}).encode(),
        "unet/diffusion_pytorch_model.safetensors": b"x",
    }
    hub.files, hub.served = dict(files), dict(files)
    with pytest.raises(UnsafeSource, match="never run here"):
        resolve(f"hf://{REPO}@{COMMIT}", tmp_path)
    assert set(hub.downloads) == {"model_index.json"}
