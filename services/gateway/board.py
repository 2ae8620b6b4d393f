"""Owns what the replicas last reported: which models are ready, their limits. Asks when its knowledge is stale."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.gateway.dispatcher import Dispatcher, ReplicaLost
from services.gateway.logs import Log
from shared.errors import ServiceError
from shared.reports import ModelReport, ModelState, ReplicaReport

ASK_TIMEOUT_S = 1.0
TRUSTED_S = 1.0  # an older report says nothing about now; `Settings.report_s` is at most this
BEST_FIRST: tuple[ModelState, ...] = ("ready", "loading", "failed", "cold")


@dataclass(frozen=True, slots=True)
class _Answer:
    reports: tuple[ReplicaReport, ...]
    at: float  # when they were asked for: no report is older than its answer; of silence, when it was given up
    is_heard: bool  # False: nothing came back, which says nothing of the replicas


class ReportBoard:
    """The last reports of every service. No polling: reading a stale report has it asked for again."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        log: Log,
        *,
        max_age_s: float,
        ask_timeout_s: float = ASK_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._max_age_s = max_age_s
        self._ask_timeout_s = ask_timeout_s
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._last_models: dict[str, ModelReport] = {}  # by model id: limits and revision outlive the replica

    def is_ready(self, service: str, model: str) -> bool:
        """Whether a replica had the model loaded at most `TRUSTED_S` ago. Unknown counts as no."""
        return self.state(service, model) == "ready"

    def state(self, service: str, model: str) -> ModelState:
        """The best state among the replicas; "cold" without fresh knowledge."""
        answer = self._answers.get(service)
        age = self._clock() - answer.at if answer else float("inf")
        if age > self._max_age_s:
            self._ask(service)
        if answer is None or age > TRUSTED_S:
            return "cold"
        states = _states(answer, model)
        for state in BEST_FIRST:
            if state in states:
                return state
        return "cold"

    def is_at_rest(self, service: str) -> bool:
        """Whether the service is known to have had no replica at most `TRUSTED_S` ago."""
        answer = self._trusted(service)
        return answer is not None and answer.is_heard and not answer.reports

    def is_out(self, service: str, model: str) -> bool:
        """Whether it is known that no replica can answer for the model soon: there is none, or it loads, or failed to.

        Unknown counts as no. So does a model that is cold on a replica that runs: it is loaded when it is asked for.
        """
        answer = self._trusted(service)
        if answer is None:
            return False
        states = _states(answer, model)
        return self.is_at_rest(service) or (bool(states) and states <= {"loading", "failed"})

    def last_known(self, model: str) -> ModelReport | None:
        """The newest report of a model that was ever loaded, even if no replica runs now."""
        return self._last_models.get(model)

    def limits(self, model: str) -> Mapping[str, float]:
        """The model's own limits, as its last report has them; empty before the first."""
        report = self._last_models.get(model)
        return report.limits if report else {}

    def known(self, service: str) -> tuple[Sequence[ReplicaReport], float] | None:
        """The trusted reports of a service and when they were asked for, or None. Stale ones are asked for again."""
        answer = self._answers.get(service)
        if answer is None or self._clock() - answer.at > self._max_age_s:
            self._ask(service)
        trusted = self._trusted(service)
        return None if trusted is None else (trusted.reports, trusted.at)

    async def fresh(self, services: Sequence[str]) -> list[ReplicaReport]:
        """Ask every replica of these services now, and give what they say. Silent services give nothing."""
        if services:  # `wait`, unlike `gather`, leaves the tasks to whoever else waits for them
            await asyncio.wait([self._ask(service) for service in services])
        answers = [self._answers[service] for service in services if service in self._answers]
        return [report for answer in answers for report in answer.reports]

    async def refresh(self, services: Sequence[str], *, wait_s: float) -> None:
        """Have stale knowledge asked for again, and wait for the answers for at most `wait_s` seconds."""
        now = self._clock()
        stale = [s for s in services if s not in self._answers or now - self._answers[s].at > self._max_age_s]
        if stale:
            await asyncio.wait([self._ask(service) for service in stale], timeout=wait_s)

    async def know(self, services: Iterable[str], *, wait_s: float) -> None:
        """Wait for at most `wait_s` seconds for a trusted answer from those services that there is none of.

        Not for those that gave none the last time and are being asked again: they would hold everybody up.
        """
        unknown = [s for s in services if self._trusted(s) is None and not self._is_silent(s)]
        if unknown:
            await asyncio.wait([self._ask(service) for service in unknown], timeout=wait_s)

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _trusted(self, service: str) -> _Answer | None:
        answer = self._answers.get(service)
        return answer if answer is not None and self._clock() - answer.at <= TRUSTED_S else None

    def _is_silent(self, service: str) -> bool:
        answer = self._answers.get(service)
        return answer is not None and not answer.is_heard and service in self._asking

    def _ask(self, service: str) -> asyncio.Task[None]:
        """Start asking, or join those who ask already."""
        task = self._asking.get(service)
        if task is None:
            task = asyncio.create_task(self._ask_now(service))
            self._asking[service] = task
            task.add_done_callback(lambda _: self._asking.pop(service, None))
        return task

    async def _ask_now(self, service: str) -> None:
        reports: Sequence[ReplicaReport] = ()
        is_heard = False
        asked = self._clock()
        try:
            async with asyncio.timeout(self._ask_timeout_s):
                reports = await self._dispatcher.reports(service)
                is_heard = True
        except (TimeoutError, ReplicaLost, ServiceError) as error:
            self._log.warning("no_reports", service=service, cause=repr(error))
        # Silence counts from its end: else it would be no answer at all, and be waited for again by the next.
        self._answers[service] = _Answer(tuple(reports), asked if is_heard else self._clock(), is_heard)
        for report in reports:
            for entry in report.models:
                if entry.state == "ready":
                    self._last_models[entry.model] = entry


def _states(answer: _Answer, model: str) -> set[ModelState]:
    return {entry.state for report in answer.reports for entry in report.models if entry.model == model}
