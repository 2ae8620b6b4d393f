"""Owns the rows of Locust's table: one a modality, and one a metric of it. Never sees a socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loadtests.outcomes import Outcome
from loadtests.users.chat import Chat
from loadtests.users.table import MODALITIES


class Refused(Exception):
    """429 or 503."""


class Late(Exception):
    """504, or the same inside a stream."""


class Truncated(Exception):
    """A stream that ended before it said so."""


class Failed(Exception):
    """Everything else that is no answer."""


class Unsent(Exception):
    """Due, but there were as many requests in flight as there may be."""


ERRORS = {"refused": Refused, "late": Late, "truncated": Truncated, "failed": Failed}


@dataclass(frozen=True, slots=True)
class Row:
    """As Locust's event `request` takes it: of a metric, `response_time` is its value, and the type its unit."""

    request_type: str
    name: str
    response_time: float
    response_length: int = 0
    exception: Exception | None = None

    def fields(self) -> dict[str, Any]:
        names = ("request_type", "name", "response_time", "response_length", "exception")
        return {name: getattr(self, name) for name in names} | {"context": {}, "response": None}


def rows_of(outcome: Outcome) -> Iterator[Row]:
    modality, reply = MODALITIES[outcome.modality], outcome.reply
    error = None if outcome.answered else ERRORS[reply.verdict](reply.cause)
    yield Row("POST", modality.path, outcome.end_to_end_s * 1e3, outcome.size, error)
    if not outcome.answered:
        return
    times = (
        (f"time to first {modality.piece}", outcome.time_to_first_s),
        (f"between {modality.piece}s, p50", outcome.gap_s(0.5)),
        (f"between {modality.piece}s, p99", outcome.gap_s(0.99)),
        ("queue time", reply.queue_s),
    )
    for name, seconds in times:
        if seconds is not None:
            yield Row("ms", _titled(outcome.modality, name), seconds * 1e3)
    if modality.piece == "token" and outcome.units_per_second is not None:
        yield Row("1/s", _titled(outcome.modality, "tokens per second"), outcome.units_per_second, int(outcome.units))


def unsent_row(modality: str, in_flight: int) -> Row:
    error = Unsent(f"{in_flight} requests were in flight (--max-in-flight)")
    return Row("UNSENT", MODALITIES[modality].path, 0.0, 0, error)


def _titled(modality: str, name: str) -> str:
    """Those of chat have no title: they were there first."""
    return name if modality == Chat.task else f"{modality}: {name}"
