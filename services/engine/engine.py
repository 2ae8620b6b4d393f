"""Owns requests: admission, groups, steps, deadlines, failures, replies. Never sees a tensor, a thread or a socket."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.engine.admission import check_room, row_costs
from services.engine.backlog import Backlog, Share, Waiting
from services.engine.contract import FinishReason, Params, Sampler, StepOutput, steps_of
from services.engine.errors import DeviceFailure, EngineError, EngineUnhealthy, ModelBusy, RowFailed, UnknownModel
from services.engine.rows import Group, Model, Output, Row, SortedRows
from services.engine.stats import ModelCounters, ModelStats
from services.engine.stepping import as_device_failure, row_failure, step_batch

log = logging.getLogger(__name__)


class Engine:
    """Iteration-level batching (Orca, OSDI '22): rows join and leave running batches at step boundaries.

    `step()` passes one boundary and steps one group: rows of one model with equal batch keys. Groups take turns.
    `max_waiting_cost` bounds what one tenant may have waiting in one priority, over all models, in units of cost: no
    tenant takes another's room. A request counts whole when it is submitted, even if it would start at once, so the
    bound is also the largest request accepted.

    Every row ends with exactly one final `Output`. Not thread-safe, except for `stats`, `models`, `waiting` and
    `check_room`.
    """

    def __init__(
        self,
        samplers: Mapping[str, Sampler[Any, Any, Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
        max_waiting_cost: float,
    ) -> None:
        self.clock = clock
        self.max_waiting_cost = max_waiting_cost
        self._models: Mapping[str, Model] = {}  # replaced, never changed: other threads read it
        self._counters: Mapping[str, ModelCounters] = {}  # the same; kept when a model leaves
        self._requests: dict[int, dict[int, Row]] = {}  # live rows by request and index
        self._last_request = 0
        self._deadlines = SortedRows(lambda row: (row.deadline, row.request, row.index))
        self._turns: dict[Group, None] = {}  # groups with running rows; the first is next
        self.backlog = Backlog()  # rows that wait here, and what is on its way in from other threads
        self._outputs: list[Output] = []
        self._failure: DeviceFailure | None = None
        for model, sampler in samplers.items():
            self.register(model, sampler)

    @property
    def models(self) -> frozenset[str]:
        return frozenset(self._models)

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything. Rows never wait unless others run, so no work means nothing to time."""
        return bool(self._requests or self._outputs)

    @property
    def failure(self) -> DeviceFailure | None:
        """What ended this engine. It takes no more work; every row has failed, or fails at the next `step`."""
        return self._failure

    @property
    def accounts(self) -> int:
        """How many tenants' fair-share accounts are held; 0 when nothing waits."""
        return sum(order.accounts for order in {id(each.order): each.order for each in self._models.values()}.values())

    def stats(self) -> Mapping[str, ModelStats]:
        """Counters of every model that was ever registered, by id. Safe from any thread."""
        return {model: counters.snapshot() for model, counters in self._counters.items()}

    def waiting(self, model: str) -> tuple[Waiting, ...]:
        """What waits for a model, by priority and tenant. Safe from any thread."""
        return self.backlog.of(model)

    def check_room(self, share: Share, cost: float) -> None:
        """QueueFull if the tenant has too much waiting to add this. Safe from any thread."""
        check_room(limit=self.max_waiting_cost, waiting=self.backlog.cost(share), cost=cost)

    def register(self, model: str, sampler: Sampler[Any, Any, Any], *, base: str | None = None) -> None:
        """Host a model. ValueError if the id is taken or the sampler takes no rows.

        With a `base` the sampler is that model's, which is hosted already: rows of both wait in one order and are
        admitted beside each other, while each has groups and counters of its own. UnknownModel if it is not here,
        ValueError if the sampler is another.
        """
        if model in self._models:
            raise ValueError(f"model {model!r} is registered already")
        if sampler.max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, got {sampler.max_batch_size}")
        counters = self._counters.get(model) or ModelCounters(sampler.max_batch_size)
        hosted = Model(model, sampler, counters) if base is None else self._model(base).variant(model, counters)
        if hosted.sampler is not sampler:
            raise ValueError(f"model {model!r} has another sampler than its base {base!r}")
        self._counters = {**self._counters, model: counters}
        self._models = {**self._models, model: hosted}

    def unregister(self, model: str) -> None:
        """Forget a model. ModelBusy if it has rows or is the base of another, UnknownModel if it is not here."""
        hosted = self._model(model)
        if hosted.has_rows or any(other.base is hosted for other in self._models.values()):
            raise ModelBusy(model)
        self._models = {key: value for key, value in self._models.items() if key != model}

    def submit(
        self,
        model: str,
        rows: Sequence[Params],
        *,
        tenant: str = "default",
        weight: float = 1.0,
        priority: int = 1,
        deadline: float | None = None,
        submitted_at: float | None = None,
    ) -> int:
        """Queue a request's rows, all or none, and return its id. `deadline` and `submitted_at` are clock times.

        Raises QueueFull, and what `accept` does.
        """
        share = Share(priority, tenant, weight)
        self.check_room(share, sum(row_costs(rows, weight=weight, deadline=deadline)))
        return self.accept(model, rows, share, deadline=deadline, submitted_at=submitted_at)

    def accept(
        self, model: str, rows: Sequence[Params], share: Share, *, deadline: float | None, submitted_at: float | None
    ) -> int:
        """As `submit`, for what has passed `check_room`.

        Raises EngineUnhealthy, UnknownModel, ValueError for no rows or a bad cost or weight, and what the sampler's
        `batch_key` raises.
        """
        if self._failure is not None:
            raise EngineUnhealthy(str(self._failure)) from self._failure
        hosted = self._model(model)
        costs = row_costs(rows, weight=share.weight, deadline=deadline)
        keys = [hosted.sampler.batch_key(params) for params in rows]
        frozenset(keys)  # a key that cannot be hashed is refused while nothing is queued yet
        now = self.clock() if submitted_at is None else submitted_at
        self._last_request = request = self._last_request + 1
        live = self._requests[request] = {}
        for index, (params, cost, key) in enumerate(zip(rows, costs, keys, strict=True)):
            ticket = hosted.order.enter(tenant=share.tenant, weight=share.weight, priority=share.priority, cost=cost)
            group, steps = hosted.group(key), steps_of(params)
            row = live[index] = Row(request, index, params, cost, group, ticket, share, now, deadline, steps)
            self._enter_queue(row)
        return request

    def is_live(self, request: int) -> bool:
        """Whether any row of the request has not ended."""
        return request in self._requests

    def abort(self, request: int) -> None:
        """End a request's live rows with ABORT and free them now. An unknown or ended id changes nothing."""
        # Last first: a tenant's account takes back what its last row would have cost.
        for row in reversed(list(self._requests.get(request, {}).values())):
            self._finish(row, FinishReason.ABORT)

    def step(self) -> list[Output]:
        """Pass one boundary, step the next group once, and return all outputs since the last call."""
        self.pass_boundary()
        return self.advance()

    def pass_boundary(self) -> None:
        """The first half of `step`: end the rows that are late, then start those that may."""
        if self._failure is None:
            self._expire()
            self._admit()

    def advance(self) -> list[Output]:
        """The second half of `step`: step the group whose turn it is. Nothing leaves the queue, unless all fails."""
        group = next(iter(self._turns), None)
        if group is not None and self._failure is None:
            self._step_group(group)
        if self._failure is not None:
            self._fail_all(self._failure)
        outputs, self._outputs = self._outputs, []
        return outputs

    def _model(self, model: str) -> Model:
        try:
            return self._models[model]
        except KeyError:
            raise UnknownModel(model) from None

    def _expire(self) -> None:
        if not self._deadlines:
            return
        now = self.clock()
        while (row := self._deadlines.first) is not None and row.deadline is not None and row.deadline <= now:
            self._finish(row, FinishReason.DEADLINE)

    def _admit(self) -> None:
        for model in self._models.values():
            # A row whose group is full holds back its group alone; one that does not fit, all of its model.
            while self._failure is None and (row := model.next_waiting()) is not None and self._try_start(row):
                pass

    def _try_start(self, row: Row) -> bool:
        """Start the row, or end it if it cannot run. False if it must wait for running rows to leave."""
        model = row.group.model
        try:
            states = model.states
            if not model.sampler.fits(row.params, states):
                if not states:  # it never will, and would hold back its model for ever
                    self._finish(row, FinishReason.ERROR, error=RowFailed("the row does not fit, even alone"))
                return not states
            state = model.sampler.start(row.params)
        except Exception as error:
            self._failure = as_device_failure(error)
            if self._failure is None:
                cause = row_failure(f"the row could not start: {type(error).__name__}", error)
                self._finish(row, FinishReason.ERROR, error=cause)
            return True
        self._leave_queue(row, served=True)
        row.state, row.started_at = state, self.clock()
        row.group.running.append(row)
        self._turns.setdefault(row.group)
        model.counters.started(row.cost)
        return True

    def _step_group(self, group: Group) -> None:
        rows = list(group.running)
        began = self.clock()
        outcomes = step_batch(group.model.sampler, [row.state for row in rows])
        now = self.clock()
        # To the end of the line; `_finish` takes the group out when its last row leaves.
        del self._turns[group]
        self._turns[group] = None
        work = [outcome.units for outcome in outcomes if isinstance(outcome, StepOutput)]
        moved = sum(units > 0 for units in work)
        group.model.counters.stepped(len(rows), moved, sum(work), now - began, at=now)
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, StepOutput):
                self._apply(row, outcome)
            elif isinstance(outcome, DeviceFailure):
                self._failure = outcome
            else:
                self._finish(row, FinishReason.ERROR, error=outcome)

    def _apply(self, row: Row, output: StepOutput[Any]) -> None:
        row.units += output.units
        row.moved += output.units > 0
        if output.finish_reason is FinishReason.ERROR:
            self._finish(row, FinishReason.ERROR, error=RowFailed("the row's values are not finite"))
            return
        if output.finish_reason is not None:
            self._finish(row, output.finish_reason, chunk=output.chunk)
        elif output.chunk is not None:
            self._deliver(row, output.chunk)

    def _deliver(
        self,
        row: Row,
        chunk: Any | None,
        reason: FinishReason | None = None,
        error: EngineError | None = None,
    ) -> None:
        queued_s = None if row.started_at is None else row.started_at - row.submitted_at
        if chunk is not None and row.first_chunk_at is None:
            row.first_chunk_at = self.clock()
            row.group.model.counters.first_chunk(row.first_chunk_at - row.submitted_at)
        times = None if reason is None else row.times(self.clock())
        self._outputs.append(Output(row.request, row.index, chunk, reason, row.units, error, queued_s, times))

    def _fail_all(self, failure: DeviceFailure) -> None:
        if self._requests:
            log.error("the device failed; every row ends", exc_info=failure)
        for row in [row for live in self._requests.values() for row in live.values()]:
            self._finish(row, FinishReason.ERROR, error=failure)

    def _finish(
        self, row: Row, reason: FinishReason, *, chunk: Any | None = None, error: EngineError | None = None
    ) -> None:
        """The one way out of the engine: free, forget, reply."""
        live = self._requests[row.request]
        del live[row.index]
        if not live:
            del self._requests[row.request]
        if row.deadline is not None:
            self._deadlines.remove(row)
        if row.started_at is not None:
            self._leave_batch(row)
        else:
            self._leave_queue(row, served=False)
        group = row.group
        if group.empty:
            group.model.drop(group)
        group.model.counters.finished(
            reason, ran=row.started_at is not None, cost=row.cost, units=row.units, steps=row.steps, moved=row.moved
        )
        self._deliver(row, chunk, reason, error)

    def _leave_batch(self, row: Row) -> None:
        row.group.running.remove(row)
        if not row.group.running:
            del self._turns[row.group]
        try:
            row.group.model.sampler.release(row.state)
        except Exception as error:
            log.exception("release failed; the row's result stands")
            self._failure = self._failure or as_device_failure(error)

    def _enter_queue(self, row: Row) -> None:
        row.group.waiting.add(row)
        if row.deadline is not None:
            self._deadlines.add(row)
        self.backlog.enter(row.group.model.id, row.share, row.cost)
        row.group.model.counters.enqueued(row.cost)

    def _leave_queue(self, row: Row, *, served: bool) -> None:
        model = row.group.model
        row.group.waiting.remove(row)
        (model.order.serve if served else model.order.drop)(row.ticket)
        self.backlog.leave(model.id, row.share, row.cost)
        model.counters.dequeued(row.cost, self.clock() - row.submitted_at)
