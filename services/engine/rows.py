"""Owns the engine's records: outputs, rows, and each model's groups of rows. Never decides; the engine does."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from services.engine.backlog import Share
from services.engine.contract import FinishReason, Params, Sampler
from services.engine.errors import EngineError
from services.engine.policy import FairOrder, Ticket
from services.engine.stats import ModelCounters


@dataclass(frozen=True, slots=True)
class RowTimes:
    """When a row did what, in seconds of the engine's clock; None: never. `steps` are those that did its work."""

    submitted_at: float
    started_at: float | None
    first_chunk_at: float | None
    ended_at: float
    steps: int


@dataclass(frozen=True, slots=True)
class Output:
    """What a row delivers. Each row's last output, and no other, has a `finish_reason`; it may carry a chunk too.

    `error` is set if and only if the reason is ERROR: `RowFailed` (its `__cause__` is what the sampler raised),
    `DeviceFailure`, or another `EngineError` that ended the row. `queued_s` is how many seconds the row
    waited in the queue; None of one that never ran. A final output of the engine's has `times`.
    """

    request: int  # the engine's id of the submission
    row: int  # the row's index within its submission
    chunk: Any | None
    finish_reason: FinishReason | None
    units: float  # work done for this row so far: a running total, in the model's own unit
    error: EngineError | None = None
    queued_s: float | None = None
    times: RowTimes | None = None


@dataclass(slots=True, eq=False)
class Row:
    """One row of a request, from submission to its final output. Times are on the engine's clock."""

    request: int
    index: int
    params: Params
    cost: float
    group: Group
    ticket: Ticket
    share: Share
    submitted_at: float
    deadline: float | None
    steps: float  # that it is predicted to take
    moved: int = 0  # steps that did some of its work
    state: Any = None
    started_at: float | None = None  # once it is set, `state` is live and must be released
    units: float = 0.0
    first_chunk_at: float | None = None

    def times(self, ended_at: float) -> RowTimes:
        return RowTimes(self.submitted_at, self.started_at, self.first_chunk_at, ended_at, self.moved)


class SortedRows:
    """Rows in the order of a unique key; every operation costs at most a binary search and a move of memory."""

    __slots__ = ("_key", "_rows")

    def __init__(self, key: Callable[[Row], Any]) -> None:
        self._key = key
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def first(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def add(self, row: Row) -> None:
        insort(self._rows, row, key=self._key)

    def remove(self, row: Row) -> None:
        del self._rows[bisect_left(self._rows, self._key(row), key=self._key)]


class Group:
    """The rows of one model that may share steps: those that run, and those that wait, in the policy's order."""

    __slots__ = ("key", "model", "running", "waiting")

    def __init__(self, model: Model, key: Hashable) -> None:
        self.model = model
        self.key = key
        self.running: list[Row] = []
        self.waiting = SortedRows(attrgetter("ticket"))

    @property
    def full(self) -> bool:
        return len(self.running) >= self.model.sampler.max_batch_size

    @property
    def empty(self) -> bool:
        return not self.running and not self.waiting


@dataclass(slots=True, eq=False)
class Model:
    """One hosted model: its sampler, its groups by batch key, and the order of its waiting rows.

    Models of one sampler, which are variants of one another, have one order, and know each other's groups.
    """

    id: str
    sampler: Sampler[Any, Any, Any]
    counters: ModelCounters
    order: FairOrder = field(default_factory=FairOrder)
    groups: dict[tuple[str, Hashable], Group] = field(default_factory=dict[tuple[str, Hashable], Group])
    base: Model | None = None

    def variant(self, model: str, counters: ModelCounters) -> Model:
        """Another model of the same sampler."""
        return Model(model, self.sampler, counters, self.order, self.groups, base=self)

    @property
    def has_rows(self) -> bool:
        return any(group.model is self for group in self.groups.values())

    @property
    def states(self) -> Sequence[Any]:
        """The states of all the sampler's running rows, whatever their group."""
        return [row.state for group in self.groups.values() for row in group.running]

    def group(self, key: Hashable) -> Group:
        group = self.groups.get((self.id, key))
        if group is None:
            group = self.groups[self.id, key] = Group(self, key)
        return group

    def drop(self, group: Group) -> None:
        """Forget a group that is empty."""
        del self.groups[self.id, group.key]

    def next_waiting(self) -> Row | None:
        """The first waiting row in the policy's order whose group has room for it."""
        heads = (group.waiting.first for group in self.groups.values() if group.waiting and not group.full)
        return min((row for row in heads if row is not None), key=attrgetter("ticket"), default=None)
