"""Owns keys that are pressed while something is shown: without Enter, and without being echoed."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def single_keys(sleep: Callable[[float], None]) -> Generator[Callable[[float], str]]:
    """A function that waits for a key so many seconds, and returns it, or "". Where no keyboard is, it sleeps."""
    if not sys.stdin.isatty():
        yield lambda seconds: sleep(seconds) or ""
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda seconds: os.read(terminal, 1).decode(errors="replace") if _waits(terminal, seconds) else ""
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _waits(terminal: int, seconds: float) -> bool:
    return bool(select.select([terminal], [], [], seconds)[0])
