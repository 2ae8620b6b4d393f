"""Owns what the processes of one run of pytest-xdist share: a folder, turns, and who is the first there or the last."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


def shared_folder(config: pytest.Config) -> Path:
    """A temporary folder of this run, the same in each of its processes."""
    own = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined] # what its fixture returns
    return own.parent if hasattr(config, "workerinput") else own


@contextmanager
def turn(folder: Path, *, alone: bool) -> Generator[None]:
    """Beside others that are not to be alone. Whoever asks later waits for whoever waits."""
    with (folder / "gate").open("w") as gate, (folder / "room").open("w") as room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


class Company:
    """The processes that use something together: the first makes it ready, and the last puts it away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def join(self) -> Generator[bool]:
        """True if nobody is there. Others wait until this ends; who fails meanwhile has not joined."""
        with self._locked() as members:
            yield not members
            self._count(members + 1)

    @contextmanager
    def leave(self) -> Generator[bool]:
        """True if nobody is left. Others wait until this ends."""
        with self._locked() as members:
            self._count(members - 1)
            yield members == 1

    @contextmanager
    def _locked(self) -> Generator[int]:
        with (self._folder / "members").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield int(file.read() or 0)

    def _count(self, members: int) -> None:
        (self._folder / "members").write_text(str(members))
