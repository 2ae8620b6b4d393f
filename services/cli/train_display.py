"""Owns what a run looks like: a bar with loss, metric, speed and time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from services.training.reporting import Lines, Reporter, Tick

_DRAW_EVERY_S = 0.1


@contextmanager
def train_display(console: Console) -> Generator[Reporter]:
    """A reporter on the console for as long as a run lasts."""

    def write(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        yield Lines(write)
        return
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, write)


class _Bar(Lines):
    """Draws ticks as a bar; one between two drawings costs a look at the clock."""

    def __init__(
        self, progress: Progress, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(write, clock)
        self._progress, self._drawn = progress, -_DRAW_EVERY_S
        self._task = progress.add_task("", total=None, text="")

    def tick(self, tick: Tick) -> None:
        now = self._clock()
        if now - self._drawn >= _DRAW_EVERY_S or tick.step == tick.steps:
            self._drawn = now
            self._progress.update(self._task, completed=tick.step, total=tick.steps, text=str(tick))
