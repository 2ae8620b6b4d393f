"""Where files' bytes are kept: whole or not at all, in a folder and in other storage."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.gateway import blobs as module
from services.gateway.blobs import BlobMissing, Blobs, LineTooLong, NumberedLine, TooManyLines


@pytest.fixture(params=["folder", "file://", "memory://"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    urls = {"folder": str(tmp_path / "new folder"), "file://": f"file://{tmp_path}/files/"}
    return Blobs(urls.get(request.param, f"memory://{secrets.token_hex(8)}"))


async def write(blobs: Blobs, name: str, *pieces: bytes) -> None:
    async with blobs.writing(name) as writer:
        for piece in pieces:
            await writer.write(piece)


async def break_off(blobs: Blobs, name: str) -> None:
    async with blobs.writing(name) as writer:
        await writer.write(b"half")
        raise RuntimeError


async def read(blobs: Blobs, name: str) -> bytes:
    return b"".join([piece async for piece in blobs.pieces(name)])


async def test_what_was_written_is_read(blobs: Blobs) -> None:
    await write(blobs, "a", b"one", b"", b"two")
    assert await read(blobs, "a") == b"onetwo"


async def test_a_blob_written_again_takes_the_place_of_the_first(blobs: Blobs) -> None:
    await write(blobs, "a", b"first, and longer")
    await write(blobs, "a", b"second")
    assert await read(blobs, "a") == b"second"


async def test_a_blob_that_breaks_off_does_not_exist_and_the_one_before_it_stays(blobs: Blobs) -> None:
    await write(blobs, "old", b"old")
    for name in ("old", "new"):
        with pytest.raises(RuntimeError):
            await break_off(blobs, name)
    assert await read(blobs, "old") == b"old"
    with pytest.raises(BlobMissing):
        await read(blobs, "new")


async def test_what_is_removed_is_gone_and_removing_it_again_does_nothing(blobs: Blobs) -> None:
    await write(blobs, "a", b"x")
    await blobs.remove("a")
    await blobs.remove("a")
    with pytest.raises(BlobMissing):
        await read(blobs, "a")


async def test_what_a_dead_writer_left_is_removed_and_a_living_ones_is_not(blobs: Blobs) -> None:
    async with blobs.writing("a") as writer:
        await writer.write(b"x")
        await blobs.remove_partial(older_than_s=3600)
    assert await read(blobs, "a") == b"x"
    left = blobs.writing("b")
    await (await left.__aenter__()).write(b"half")
    await blobs.remove_partial(older_than_s=-3600)
    with pytest.raises(FileNotFoundError):
        await left.__aexit__(None, None, None)


async def test_the_hash_and_size_are_those_of_the_bytes(blobs: Blobs) -> None:
    async with blobs.writing("a") as writer:
        await writer.write(b"ab")
        await writer.write(b"c")
    assert writer.size == 3
    assert writer.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
async def test_lines_are_whole_however_the_bytes_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    blobs = Blobs(str(tmp_path))
    await write(blobs, "a", b"one\n\n  \nfour\nfive")
    pages = [page async for page in blobs.lines("a", longest=5, most=5, parse=list)]
    assert [line for page in pages for line in page] == [(1, b"one"), (4, b"four"), (5, b"five")]


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize("data", [b"ok\n123456\n", b"ok\n123456"])
async def test_a_line_over_the_limit_is_refused_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, data: bytes
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    blobs = Blobs(str(tmp_path))
    await write(blobs, "a", data)
    with pytest.raises(LineTooLong) as caught:
        _ = [page async for page in blobs.lines("a", longest=5, most=5, parse=list)]
    assert caught.value.number == 2


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize("data", [b"\n\n\n\n", b"a\nb\n\nd"])
async def test_lines_over_the_limit_are_not_read_blank_ones_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, data: bytes
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    blobs = Blobs(str(tmp_path))
    await write(blobs, "a", data)
    assert [page async for page in blobs.lines("a", longest=5, most=4, parse=list)]
    with pytest.raises(TooManyLines):
        _ = [page async for page in blobs.lines("a", longest=5, most=3, parse=list)]


async def test_lines_are_split_and_parsed_beside_the_event_loop(tmp_path: Path) -> None:
    here = threading.get_ident()
    blobs = Blobs(str(tmp_path))
    await write(blobs, "a", b"one\ntwo")

    def parse(lines: Sequence[NumberedLine]) -> Sequence[int]:
        return [threading.get_ident() for _ in lines]

    threads = [thread async for page in blobs.lines("a", longest=5, most=5, parse=parse) for thread in page]
    assert len(threads) == 2
    assert here not in threads


async def test_a_storage_that_hangs_fails_what_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(str(tmp_path), timeout_s=0.05)
    await write(blobs, "a", b"x")
    goes_on = threading.Event()
    monkeypatch.setattr(blobs, "_remove", lambda _: goes_on.wait())
    try:
        with pytest.raises(OSError, match=r"0\.05 s") as caught:
            await blobs.remove("a")
        assert not isinstance(caught.value, TimeoutError), "which a client's slowness is told by"
    finally:
        goes_on.set()
