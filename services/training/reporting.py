"""Owns how a run tells a person where it is, and the plain lines of it. Never sees a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

LINE_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class Tick:
    """After a step: steps done of the total, the step's loss, examples a second, seconds left at that speed."""

    step: int
    steps: int
    loss: float
    metric: float | None  # of the last validation
    rate: float
    seconds_left: float

    def __str__(self) -> str:
        metric = "" if self.metric is None else f"  metric {self.metric:.4g}"
        left = timedelta(seconds=round(self.seconds_left))
        return f"loss {self.loss:.4g}{metric}  {self.rate:.0f} examples/s  {left} left"


class Reporter(Protocol):
    """Called from the training thread, `tick` after every step: it must cost nothing."""

    def tick(self, tick: Tick) -> None: ...
    def validated(self, step: int, figures: Mapping[str, float], *, best: bool) -> None: ...
    def note(self, text: str) -> None: ...


class Lines:
    """A line every 15 seconds, and one for everything else that is worth it."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._next = -LINE_EVERY_S

    def tick(self, tick: Tick) -> None:
        now = self._clock()
        if now >= self._next or tick.step == tick.steps:
            self._next = now + LINE_EVERY_S
            self._write(f"step {tick.step}/{tick.steps}: {tick}")

    def validated(self, step: int, figures: Mapping[str, float], *, best: bool) -> None:
        text = "  ".join(f"{name} {value:.5g}" for name, value in figures.items())
        self._write(f"step {step}: validated: {text}{'  (best so far)' if best else ''}")

    def note(self, text: str) -> None:
        self._write(text)


class Silence:
    """Reports nothing: what all workers but the first do."""

    def tick(self, tick: Tick) -> None: ...
    def validated(self, step: int, figures: Mapping[str, float], *, best: bool) -> None: ...
    def note(self, text: str) -> None: ...
