"""Owns the bytes of files: a local folder or any storage that fsspec reaches by URL. Never sees what they mean.

fsspec's calls block, so each runs in one of the blobs' own threads, and is waited for only so long. A blob appears
under its name whole, or not at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from fsspec.core import url_to_fs

PIECE = 2**20  # bytes of one read
PARTIAL = "partial"  # the folder of what is being written
THREADS = 16
TIMEOUT_S = 60.0  # of one call, a place in the threads included

T = TypeVar("T")
NumberedLine = tuple[int, bytes]  # from 1


class BlobMissing(Exception):
    """There is no blob of this name."""


class LineTooLong(Exception):
    """A line of a blob is over the limit. `number` counts from 1."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} is too long")
        self.number = number


class TooManyLines(Exception):
    """A blob has more lines than are read, blank ones among them."""


class _Threads:
    """Runs calls that block. A storage that hangs takes these threads alone."""

    def __init__(self, timeout_s: float) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")
        self._timeout_s = timeout_s

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """Raises what `call` raises, and OSError if it takes too long; it may go on then."""
        working = asyncio.get_running_loop().run_in_executor(self._pool, call, *args)
        try:
            await asyncio.wait({working}, timeout=self._timeout_s)
            if working.done():
                return working.result()
            raise OSError(f"the files' storage has not answered in {self._timeout_s:g} s")
        finally:
            working.cancel()  # a call that waits for a thread never begins


class BlobWriter:
    """One blob on its way."""

    def __init__(self, file: Any, threads: _Threads) -> None:
        self._file = file
        self._threads = threads
        self._digest = hashlib.sha256()
        self.size = 0  # bytes

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        self.size += len(data)
        await self._threads.run(self._write, data)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


class Blobs:
    """Bytes by name."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """A path, or a URL such as `s3://bucket/prefix`. Raises ValueError or ImportError if nothing here speaks it."""
        self._files: Any
        self._files, root = url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._threads = _Threads(timeout_s)

    @asynccontextmanager
    async def writing(self, name: str) -> AsyncGenerator[BlobWriter]:
        """A blob that gets its name as the block ends well, in place of what had it; else nothing is left of it."""
        unfinished = f"{self._root}/{PARTIAL}/{name}-{secrets.token_hex(8)}"
        file = await self._threads.run(self._create, unfinished)
        try:
            yield BlobWriter(file, self._threads)
            await self._threads.run(self._keep, file, unfinished, f"{self._root}/{name}")
        except BaseException:
            with suppress(OSError):  # it hangs: what is left is for `remove_partial`
                await self._threads.run(self._discard, file, unfinished)
            raise

    async def pieces(self, name: str) -> AsyncGenerator[bytes]:
        """The blob's bytes in order. Raises BlobMissing before the first."""
        try:
            file = await self._threads.run(self._files.open, f"{self._root}/{name}", "rb")
        except FileNotFoundError:
            raise BlobMissing(name) from None
        try:
            while piece := await self._threads.run(file.read, PIECE):
                yield piece
        finally:
            file.close()

    async def lines(
        self, name: str, *, longest: int, most: int, parse: Callable[[Sequence[NumberedLine]], Sequence[T]]
    ) -> AsyncGenerator[Sequence[T]]:
        """What `parse`, called in a thread, makes of the lines that are not blank, some at a time, numbered from 1.

        Raises BlobMissing, TooManyLines over `most`, what `parse` raises, and LineTooLong before more than `longest`
        bytes and a piece of one line are held.
        """
        splitter = _Splitter(longest, most)
        async with aclosing(self.pieces(name)) as pieces:
            async for piece in pieces:
                yield await self._threads.run(splitter.parse, parse, piece)
        yield await self._threads.run(splitter.parse, parse, None)

    async def remove(self, name: str) -> None:
        """Does nothing if there is none."""
        await self._threads.run(self._remove, f"{self._root}/{name}")

    async def remove_partial(self, *, older_than_s: float) -> None:
        """Remove what writers have left that died on the way."""
        for name in await self._threads.run(self._names, f"{self._root}/{PARTIAL}"):
            await self.remove_if_old(f"{PARTIAL}/{name}", older_than_s=older_than_s)

    async def names(self) -> Sequence[str]:
        """Of all blobs, and of whatever else is kept at their place."""
        return await self._threads.run(self._names, self._root)

    async def remove_if_old(self, name: str, *, older_than_s: float) -> None:
        """Does nothing if there is none."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        await self._threads.run(self._remove_if_old, f"{self._root}/{name}", before)

    def _names(self, folder: str) -> list[str]:
        self._files.invalidate_cache(folder)
        entries = self._files.ls(folder, detail=True) if self._files.exists(folder) else []
        return [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"]

    def _remove_if_old(self, path: str, before: datetime) -> None:
        with suppress(FileNotFoundError):  # it is gone, or has its name by now
            if self._files.modified(path) < before:
                self._files.rm_file(path)

    def _create(self, path: str) -> Any:
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        return self._files.open(path, "wb")

    def _keep(self, file: Any, partial: str, path: str) -> None:
        file.close()
        self._files.mv(partial, path)

    def _discard(self, file: Any, partial: str) -> None:
        with suppress(Exception):  # what failed before is what counts
            file.close()
        with suppress(Exception):
            self._files.rm_file(partial)

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(path)


class _Splitter:
    """Makes lines of a blob's pieces, given in order."""

    def __init__(self, longest: int, most: int) -> None:
        self._longest = longest
        self._most = most
        self._number = 1  # of the line that is not whole yet
        self._rest = bytearray()

    def parse(self, parse: Callable[[Sequence[NumberedLine]], Sequence[T]], piece: bytes | None) -> Sequence[T]:
        """Of the lines that end in this piece; None is the blob's end."""
        return parse(self._rest_of() if piece is None else self._split(piece))

    def _split(self, piece: bytes) -> Sequence[NumberedLine]:
        if piece.count(b"\n") + self._number > self._most + 1:
            raise TooManyLines
        *whole, last = piece.split(b"\n")
        found: list[NumberedLine] = []
        for line in whole:
            self._take(bytes(self._rest) + line if self._rest else line, found)
            self._rest.clear()
            self._number += 1
        self._rest += last
        if len(self._rest) > self._longest:
            raise LineTooLong(self._number)
        return found

    def _rest_of(self) -> Sequence[NumberedLine]:
        """The last line, if no newline ends it."""
        found: list[NumberedLine] = []
        self._take(bytes(self._rest), found)
        if found and self._number > self._most:
            raise TooManyLines
        return found

    def _take(self, line: bytes, found: list[NumberedLine]) -> None:
        if len(line) > self._longest:
            raise LineTooLong(self._number)
        if line.strip():
            found.append((self._number, line))
