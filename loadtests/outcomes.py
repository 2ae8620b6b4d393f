"""Owns what became of one request of a load test. Never sees a socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from loadtests.client import nearest_rank
from shared.schemas.common import ErrorBody

Verdict = Literal["answered", "refused", "late", "truncated", "failed"]
# The longest time to come again that the gateway promises, in seconds.
RETRY_AFTER_S = {429: 120, 503: 30}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `status` 0: no response at all. `queue_s` is what the server said, None if it said nothing."""

    verdict: Verdict
    status: int
    cause: str = ""  # of a verdict other than answered: short, and alike for like causes
    queue_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request and what became of it. Times are of `time.perf_counter`, in seconds.

    What a person waits for counts from `due`, the moment that the request was to be sent, whatever held it up since:
    else a server that stalls would also stall the clock (coordinated omission).
    """

    modality: str
    model: str
    reply: Reply
    due: float
    started: float
    ended: float
    first: float | None = None  # text, preview or byte
    gaps: tuple[float, ...] = ()  # from a piece to the next
    units: float = 0.0  # tokens, images, items, sounds
    size: int = 0  # bytes

    @property
    def answered(self) -> bool:
        return self.reply.verdict == "answered"

    @property
    def end_to_end_s(self) -> float:
        return self.ended - self.due

    @property
    def time_to_first_s(self) -> float | None:
        return None if self.first is None else self.first - self.due

    @property
    def lag_s(self) -> float:
        """How late it was sent."""
        return self.started - self.due

    def gap_s(self, q: float) -> float | None:
        """The quantile `q` of the time from a piece to the next; None of an answer with less than two."""
        return nearest_rank(self.gaps, q) if self.gaps else None

    @property
    def units_per_second(self) -> float | None:
        """The rate after the first piece; None for answers too short to have one."""
        after_first_s = sum(self.gaps)
        return (self.units - 1) / after_first_s if after_first_s > 0 and self.units >= 2 else None


def reply_of_status(status: int, retry_after: str | None, data: bytes, queue_s: float | None) -> Reply:
    """What a status other than 200 means."""
    code = _code(data)
    if status in RETRY_AFTER_S:
        well_formed = code is not None and _is_promised(retry_after, RETRY_AFTER_S[status])
        return Reply("refused", status, f"{status} {code if well_formed else 'not well-formed'}", queue_s)
    cause = f"{status} {code or 'without an error body'}"
    return Reply("late" if status == 504 else "failed", status, cause, queue_s)


def _code(data: bytes) -> str | None:
    """The error's code, or its type; None of a body that has not the four keys."""
    try:
        error = ErrorBody.model_validate_json(data).error
    except ValidationError:
        return None
    return error.code or error.type


def _is_promised(retry_after: str | None, most_s: int) -> bool:
    return (
        retry_after is not None and retry_after.isascii() and retry_after.isdigit() and 0 < int(retry_after) <= most_s
    )
