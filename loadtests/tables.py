"""Owns a report's table: the same rows for the terminal and as Markdown. Never sees what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table as RichTable

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    head: Row
    rows: Sequence[Row]

    @property
    def markdown(self) -> str:
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    @property
    def section(self) -> str:
        """As a part of a Markdown document, under its title."""
        return f"## {self.title}\n\n{self.markdown}\n"

    @property
    def rich(self) -> RichTable:
        table = RichTable(title=self.title or None, title_justify="left")
        for name in self.head:
            table.add_column(name, overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table


def mid(values: Sequence[float], digits: int = 0) -> str:
    """The median of the rounds, and their range where there is one."""
    middle = f"{median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"
