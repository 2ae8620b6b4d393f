"""Owns when Python's garbage collector runs while models come and go. Never sees a model."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock


class Collector:
    """Python's garbage collector, paused while something makes many objects that stay: it would look at them in vain.

    That takes a quarter of the time of importing torch and transformers.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._pauses = 0

    @contextmanager
    def paused(self) -> Generator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._pauses += change
            (gc.disable if self._pauses else gc.enable)()


def collect() -> None:
    """Free a model's memory now, and what Ray Serve froze at start-up with it, which may be the model."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
