"""Owns what a worker does: it sends what the master's plan says, and reports what it has counted."""

from __future__ import annotations

from typing import Any

from locust.env import Environment
from locust.exception import StopTest
from locust.rpc import Message
from locust.runners import WorkerRunner

from loadtests.generator.options import LoadOptions
from loadtests.generator.plan import Plan
from loadtests.generator.process import Process
from loadtests.generator.rows import rows_of, unsent_row
from loadtests.outcomes import Outcome

PLAN, DRAIN, DRAINED = "castalia.plan", "castalia.drain", "castalia.drained"
REPORT = "castalia"  # a key of Locust's own reports


class WorkerRole:
    """Sends what the master's plan says."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._runner: WorkerRunner = environment.runner
        self._plan: Plan | None = None
        self._process: Process | None = None
        self._runner.register_message(PLAN, self._on_plan)
        self._runner.register_message(DRAIN, self._on_drain, concurrent=True)
        events = environment.events
        events.test_start.add_listener(self._on_start)
        events.test_stopping.add_listener(self._on_stopping)
        events.test_stop.add_listener(self._on_stop)
        events.report_to_master.add_listener(self._on_report)
        events.quitting.add_listener(self._on_quitting)

    def _on_plan(self, msg: Message, **_: Any) -> None:
        self._plan = Plan.model_validate(msg.data)

    def _on_start(self, **_: Any) -> None:
        if self._plan is None:
            raise StopTest("the master sent no plan: it must run the same locustfile")
        options = LoadOptions.of(self._environment.parsed_options)
        self._process = begin(self._environment, options, self._plan)

    def _on_drain(self, msg: Message, **_: Any) -> None:
        if self._process is not None:
            self._process.drain(msg.data["within_s"])
            self._report()
        self._runner.send_message(DRAINED)

    def _on_stopping(self, **_: Any) -> None:
        if self._process is not None:
            self._process.drain(self._environment.stop_timeout)

    def _on_stop(self, **_: Any) -> None:
        if self._process is not None:
            self._process.end()

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        if self._process is not None:
            data[REPORT] = self._process.take()

    def _on_quitting(self, **_: Any) -> None:
        """A worker that is told to leave takes nothing with it."""
        self._runner.stop()
        self._report()

    def _report(self) -> None:
        """What Locust sends every three seconds, now."""
        data: dict[str, Any] = {}
        self._environment.events.report_to_master.fire(client_id=self._runner.client_id, data=data)
        self._runner.send_message("stats", data)


def begin(environment: Environment, options: LoadOptions, plan: Plan) -> Process:
    """This process's part of a test, where Locust's users find it."""

    def tell(outcome: Outcome) -> None:
        for row in rows_of(outcome):
            environment.events.request.fire(**row.fields())

    def unsent(modality: str) -> None:
        environment.events.request.fire(**unsent_row(modality, options.max_in_flight).fields())

    process = Process(host=environment.host or "", options=options, plan=plan, tell=tell, unsent=unsent)
    environment.castalia = process
    process.begin()
    return process
