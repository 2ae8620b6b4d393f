"""Owns the prediction of how long a request will take, from what replicas report. Refuses early what will be late.

The gateway knows an upper bound of a request's cost, and a queue of up to a second ago. The replica checks again, and
knows both exactly; so what the gateway does not know it leaves to the replica.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from services.gateway.board import ASK_TIMEOUT_S, TRUSTED_S, ReportBoard
from shared.calls import Call
from shared.prediction import Load, Pace, Share, Waiting, predict

# A report that is read was asked for at most so long ago.
REMEMBERED_S = ASK_TIMEOUT_S + TRUSTED_S


class Forecast:
    """Compares predicted wait plus service with the deadline. `clock` is the board's."""

    def __init__(self, board: ReportBoard, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._clock = clock
        self._sent: dict[str, _Sent] = {}  # by service

    def check(self, service: str, call: Call, bound: float) -> None:
        """`bound` is of the call's cost, in the model's unit. Raises Overloaded; without fresh knowledge, nothing."""
        known = self._board.known(service)
        if known is None:
            return
        reports, asked_at = known
        entries = (entry for report in reports for entry in report.models)
        ready = [entry for entry in entries if entry.model == call.model and entry.state == "ready"]
        if not ready:
            return
        pace = together([entry.pace for entry in ready])
        exact = 1.0 if pace.exact is None else pace.exact
        steps = bound * (exact if pace.exact_steps is None else pace.exact_steps)
        reported = [waiting for entry in ready for waiting in entry.waiting]
        sent = self._sent.setdefault(service, _Sent()).since(asked_at, call.model)
        load = Load(
            merged([*reported, *(replace(each, cost=each.cost * exact) for each in sent)]),
            running_rows=sum(entry.running_rows for entry in ready),
            running_cost=sum(entry.running_cost for entry in ready),
            free_rows=sum(entry.free_rows for entry in ready),
        )
        prediction = predict(load, pace, _share(call), cost=bound * exact, steps=steps)
        if prediction is not None and prediction.wait_s > 0:  # of what starts at once the replica knows more
            longest_s = max(report.max_wait_s for report in reports)
            prediction.check(deadline_s=call.deadline_s, max_wait_s=longest_s)

    def sent(self, service: str, call: Call, bound: float) -> Callable[[], None]:
        """The call goes there now: it counts as waiting until there is a report that was asked for after this.

        Returns what to call when the call has ended, well or badly: it waits no more then.
        """
        now = self._clock()
        sent = self._sent.setdefault(service, _Sent())
        sent.forget(now - REMEMBERED_S)
        return partial(sent.end, sent.add(now, call.model, Waiting(_share(call), bound)))


class _Sent:
    """What this gateway sent to one service of late, in order, and its sums by model, priority and tenant."""

    def __init__(self) -> None:
        self._calls: deque[_Call] = deque()
        self._sums: dict[str, dict[tuple[int, str], _Sum]] = {}

    def add(self, at: float, model: str, waiting: Waiting) -> _Call:
        call = _Call(at, model, waiting)
        self._calls.append(call)
        sums = self._sums.setdefault(model, {})
        each = sums.setdefault(_key(waiting.share), _Sum(waiting.share))
        each.share = waiting.share
        each.calls += 1
        each.cost += waiting.cost
        return call

    def since(self, at: float, model: str) -> Iterator[Waiting]:
        self.forget(at)
        return (Waiting(each.share, each.cost, each.calls) for each in self._sums.get(model, {}).values())

    def forget(self, before: float) -> None:
        while self._calls and self._calls[0].at < before:
            self.end(self._calls.popleft())

    def end(self, call: _Call) -> None:
        """The call counts no more. Only the first time does something."""
        if not call.counts:
            return
        call.counts = False
        key = _key(call.waiting.share)
        sums = self._sums[call.model]
        each = sums[key]
        each.calls -= 1
        each.cost -= call.waiting.cost
        if not each.calls:  # an empty sum is gone: rounding never adds up
            del sums[key]


@dataclass(slots=True, eq=False)
class _Call:
    at: float
    model: str
    waiting: Waiting
    counts: bool = True


@dataclass(slots=True)
class _Sum:
    share: Share
    calls: int = 0
    cost: float = 0.0


def together(paces: Sequence[Pace]) -> Pace:
    """The pace of several replicas: those that have not had a queue yet are taken to be as fast as the others."""
    rate = _mean(pace.units_per_second for pace in paces)
    return Pace(
        None if rate is None else rate * len(paces),
        _mean(pace.seconds_per_step for pace in paces),
        _mean(pace.used for pace in paces),
        _mean(pace.exact for pace in paces),
        _mean(pace.exact_steps for pace in paces),
    )


def merged(waiting: Iterable[Waiting]) -> list[Waiting]:
    """One entry for each priority and tenant."""
    sums: dict[tuple[int, str], Waiting] = {}
    for each in waiting:
        key = _key(each.share)
        before = sums.get(key)
        sums[key] = each if before is None else Waiting(each.share, before.cost + each.cost, before.rows + each.rows)
    return list(sums.values())


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _key(share: Share) -> tuple[int, str]:
    return share.priority, share.tenant


def _share(call: Call) -> Share:
    return Share(int(call.priority), call.tenant, call.weight)
