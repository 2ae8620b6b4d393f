"""Owns how long work on a source is reported. Never sees a terminal."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called often, from the thread that fetches: bytes done of a total; None when no total is known."""

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


def silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
