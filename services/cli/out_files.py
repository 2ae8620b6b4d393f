"""Owns the files that what was made goes into: their type by suffix, their names, and what was there before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from services.cli.context import CliError

TypeT = TypeVar("TypeT")
OUT = ("--out", "--output", "-o")
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Write over files that are there.")]


def type_of(path: Path, types: Mapping[str, TypeT]) -> TypeT:
    """By the suffix. Raises CliError, which lists the suffixes that there are."""
    found = types.get(path.suffix.lower())
    if found is None:
        raise CliError(f"{path} must end in one of {', '.join(types)}")
    return found


def write_file(path: Path, content: bytes) -> None:
    """Into its folder, which is made if it is not there. Raises CliError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from error


class OutFiles:
    """`out`, or of several `out` with a number each. Raises CliError for one that is there already."""

    def __init__(self, out: Path, count: int, *, overwrite: bool) -> None:
        numbered = (out.with_name(f"{out.stem}-{i + 1}{out.suffix}") for i in range(count))
        self._paths = list(numbered) if count > 1 else [out]
        if not overwrite and (there := next((path for path in self._paths if path.exists()), None)):
            raise CliError(f"{there} is there already; --overwrite writes over it")

    def path(self, index: int) -> Path:
        if not 0 <= index < len(self._paths):
            raise CliError(f"{len(self._paths)} were asked for, and the answer has one at index {index}")
        return self._paths[index]

    def write(self, index: int, content: bytes) -> Path:
        path = self.path(index)
        write_file(path, content)
        return path
