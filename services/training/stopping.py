"""Owns what a signal means to a run: stop at the next step and leave a checkpoint; a second one ends the process."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal:
    """While entered, the first SIGINT or SIGTERM makes it true. Main thread only."""

    def __init__(self) -> None:
        self._stop = False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self._stop

    def __enter__(self) -> StopOnSignal:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
