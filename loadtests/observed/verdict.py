"""Owns which of the dashboards' queries have to return data, and which cannot. Never sees Prometheus.

`EMPTY` can have none on such a fleet; one that has some is found out as well. `SOME` have data of some models,
services or tenants. All others must have data, of every model, service and tenant that was used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

EMPTY: Mapping[str, str] = {
    "overview: Alerts that ring": "no alert rings of a fleet that is well",
    "capacity: Memory of devices (A)": "no service of models.yaml takes a device",
    "capacity: Memory of devices (most)": "no service of models.yaml takes a device",
}
_TEXT = "of models of text alone"
_WHOLE = "an answer that comes whole has no pieces"
_QUEUED = "known of services whose queue has been seen to drain"
SOME: Mapping[str, str] = {
    "capacity: Seconds that a request is predicted to wait (A)": _QUEUED,
    "capacity: Units a second while rows waited": _QUEUED,
    "model: Requests refused a second": "few models are asked for more than they can do",
    "model: Seconds to a stream's first piece (p50)": _WHOLE,
    "model: Seconds to a stream's first piece (p95)": _WHOLE,
    "model: Seconds between pieces of a stream (p50)": _WHOLE,
    "model: Seconds between pieces of a stream (p95)": _WHOLE,
    "model: Tokens a second": "what is asked for without words has no tokens",
    "model: Share of prompts' tokens that were read before (of late)": "few models keep prompts",
    "model: Share of prompts' tokens that were read before (since the start of)": "of models that have read tokens",
    "model: Tokens guessed ahead a second (checked)": _TEXT,
    "model: Tokens guessed ahead a second (right)": _TEXT,
    "model: Forms of answers a second (compiled)": _TEXT,
    "model: Forms of answers a second (refused)": _TEXT,
    "model: Forms of answers a second (found)": _TEXT,
    "model: Seconds that new forms took, a second": _TEXT,
    "model: Copies of requests a second": "one route mirrors, to one model",
    "tenants: Share of requests that failed": "of one tenant are requests that would be late",
    "tenants: Beyond the tenant's own limits": "one tenant has limits",
    "tenants: Requests given up a second": "one tenant gives up",
    "tenants: Cost that waits, in units": "one tenant makes a queue",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus said to a target: `lines` that hold numbers. `value` is what the dashboard was about."""

    dashboard: str
    target: str
    value: str
    lines: int

    @property
    def has_data(self) -> bool:
        return self.lines > 0


@dataclass(frozen=True, slots=True)
class Standing:
    """A target, for all that it was asked about. `reason` says why it may have no data."""

    target: str
    answers: Sequence[Answer]
    reason: str

    @property
    def dashboard(self) -> str:
        return self.answers[0].dashboard

    @property
    def with_data(self) -> int:
        return sum(answer.has_data for answer in self.answers)

    @property
    def lines(self) -> int:
        return max(answer.lines for answer in self.answers)

    @property
    def fault(self) -> str:
        """Empty if it is as it should be."""
        if self.target in EMPTY:
            return "has data, though it is said that it cannot" if self.with_data else ""
        if self.target in SOME:
            return "" if self.with_data else "has no data"
        missing = [answer.value for answer in self.answers if not answer.has_data]
        return f"has no data of {', '.join(map(repr, missing))}" if missing else ""


def standings(answers: Sequence[Answer]) -> list[Standing]:
    """In the order of the dashboards."""
    of_target: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        of_target[answer.target].append(answer)
    reasons = {**EMPTY, **SOME}
    return [Standing(target, found, reasons.get(target, "")) for target, found in of_target.items()]


def unknown(targets: Collection[str]) -> list[str]:
    """What the tables here name that no dashboard has."""
    return sorted({*EMPTY, *SOME} - set(targets))


def faults(found: Sequence[Standing]) -> Iterator[str]:
    for each in found:
        if each.fault:
            yield f"{each.target}: {each.fault}"
    for target in unknown([each.target for each in found]):
        yield f"{target}: no dashboard asks for it"
