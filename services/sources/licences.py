"""Owns LICENSES.md, the table of what the built-in models were trained on and under which licences they are.

A row is what `castalia train --publish` writes, and what `/v1/models` reads a built-in model's `license` from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from services.sources.errors import IntegrityError

LICENCES = Path(__file__).parent.parent / "families" / "LICENSES.md"
_HEAD = """# Licences of the built-in models

What each model in `services/families/*/weights` was trained on, whom to name, and the licence of its weights.
`castalia train MODEL --publish` writes a model's row.
"""
_COLUMNS = ("model", "family", "bytes", "trained on", "licence of the data", "attribution", "licence of the weights")


@dataclass(frozen=True, slots=True)
class LicenceRow:
    """One model. The texts are Markdown."""

    name: str
    family: str
    size: str  # of its weights, in bytes
    data: str
    data_licence: str
    attribution: str
    weights: str


def read_licences(path: Path = LICENCES) -> dict[str, LicenceRow]:
    """The rows by model name; none where the file is not there. Raises IntegrityError that names a malformed line."""
    if not path.is_file():
        return {}
    rows: dict[str, LicenceRow] = {}
    table = [line for line in path.read_text().splitlines() if line.startswith("|")]
    for line in table[2:]:
        cells = [cell.strip().replace("\x00", "|") for cell in line.replace(r"\|", "\x00").strip("|").split("|")]
        if len(cells) != len(_COLUMNS):
            raise IntegrityError(f"{path} has a row of {len(cells)} cells, expected {len(_COLUMNS)}: {line}")
        rows[cells[0]] = LicenceRow(*cells)
    return rows


def write_licence(row: LicenceRow, path: Path = LICENCES) -> None:
    """Add a model's row, or replace it; rows are sorted by name."""
    rows: Mapping[str, LicenceRow] = read_licences(path) | {row.name: row}
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    lines += [_line(astuple(rows[name])) for name in sorted(rows)]
    partial = path.with_suffix(".partial")
    partial.write_text(_HEAD + "\n" + "\n".join(lines) + "\n")
    partial.replace(path)


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"
