"""Owns what a log may say of a failure: its type and its places, never its message, which may quote a prompt."""

from __future__ import annotations

import traceback


def where(error: BaseException) -> str:
    """The error's type and the places that it passed, innermost last; then the same of what caused it."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    return ", from ".join(map(_place, chain))


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    places = " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {places or 'unknown'}"
