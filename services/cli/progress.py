"""Owns the bar of a request that is being answered: on a terminal alone, and gone at its end."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """How much of an answer is there, in `unit`."""

    def __init__(self, console: Console, doing: str, unit: str) -> None:
        columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(doing, total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None) -> None:
        self._progress.update(self._task, completed=done, total=total)
