"""Owns what signals ask of a fleet's process: noted by the handlers, read by the main thread."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Stopped(Exception):
    """A signal asked for the end."""


class Signals:
    """SIGTERM and SIGINT ask for the end, SIGHUP for a reload."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._stop = False
        self._reload = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def wait(self, seconds: float) -> None:
        """Sleep, or less if a signal comes. Raises Stopped once the end was asked for."""
        self._wake.wait(seconds)
        self._wake.clear()
        if self._stop:
            raise Stopped

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True
        self._wake.set()
