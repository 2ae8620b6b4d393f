"""Owns what a request gives as records: checks of their values, and refusals that name the column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import InvalidRequest
from shared.schemas.items import Value
from shared.schemas.records import TableColumn

_SHOWN = 40  # characters of a client's own text, in a refusal


@dataclass(frozen=True, slots=True)
class GivenRecord:
    """A record that was checked: its numbers, and its categories' codes, each in the order of their columns."""

    numbers: tuple[float, ...]
    codes: tuple[int, ...]


def number_of(value: Value, column: TableColumn, param: str) -> float:
    """Raises InvalidRequest: not a number, not a whole one where the column's are, out of its range."""
    kind = "a whole number" if column.type == "integer" else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"'{param}' must be {kind}; got {shown(value)}.", param=param, code="invalid_type")
    if column.type == "integer" and value != int(value):
        raise InvalidRequest(f"'{param}' must be {kind}; got {shown(value)}.", param=param)
    low, high = column.minimum, column.maximum
    if low is not None and high is not None and not low <= value <= high:
        raise InvalidRequest(f"'{param}' must be from {low:g} to {high:g}; got {shown(value)}.", param=param)
    return float(value)


def category_of(value: Value, categories: Sequence[str | int], param: str) -> int:
    """The category's code. A number may come as 1 or 1.0. Raises InvalidRequest, which lists the categories."""
    is_comparable = isinstance(value, str | int | float) and not isinstance(value, bool)
    if is_comparable:
        for code, each in enumerate(categories):
            if each == value:
                return code
    raise InvalidRequest(
        f"'{param}' must be one of {', '.join(map(str, categories))}; got {shown(value)}.",
        param=param,
        code="invalid_value" if is_comparable else "invalid_type",
    )


def unknown_column(name: str, known: Sequence[str], param: str) -> InvalidRequest:
    field = f"{param}.{name}"
    return InvalidRequest(
        f"The table has no column '{name}'; it has: {', '.join(known)}.", param=field, code="unknown_parameter"
    )


def shown(value: Value) -> str:
    """What was got, a text cut short."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'" if len(value) <= _SHOWN else f"'{value[:_SHOWN]}...'"
        case _:
            return repr(value)[:_SHOWN]
