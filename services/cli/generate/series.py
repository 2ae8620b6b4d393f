"""Owns reading series from a file: as /v1/forecasts takes them, or as a table of times and values."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from services.cli.context import CliError


def read_series(source: str) -> object:
    """A .json is taken as it is. Any other file is CSV with a header line: values, or times and then values.

    `-` is CSV on standard input. Raises CliError.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        return json.loads(text) if source.endswith(".json") else _columns(text)
    except OSError as error:
        raise CliError(f"cannot read {source}: {error.strerror}") from error
    except ValueError as error:
        raise CliError(f"{source}: {error}") from error


def _columns(text: str) -> list[dict[str, object]]:
    """A series for each column of values. Raises ValueError, which says what is wrong."""
    header, *rows = [row for row in csv.reader(text.splitlines()) if row] or [[]]
    if not rows:
        raise ValueError("expected a header line and a line for each value")
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"expected {len(header)} columns in every line, as in the header")
    first, *others = zip(*rows, strict=True)
    if not others:
        return [{"values": [float(value) for value in first]}]
    times = _times(first)
    return [{"values": [float(value) for value in column], "times": times} for column in others]


def _times(column: tuple[str, ...]) -> list[float] | list[str]:
    """Numbers if all are; a year alone is both, and as a number it needs no calendar."""
    try:
        return [float(time) for time in column]
    except ValueError:
        return list(column)
