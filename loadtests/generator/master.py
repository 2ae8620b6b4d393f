"""Owns what a master does: it tells each worker its part, and sums up what they count. It sends no request itself.

Before a test ends it has the workers drain: Locust itself waits half a second for their last reports, in which the
slowest requests would be lost.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_RUNNING, STATE_SPAWNING, MasterRunner

from loadtests.generator.lead import Lead
from loadtests.generator.plan import Plan
from loadtests.generator.worker import DRAIN, DRAINED, PLAN, REPORT
from loadtests.traffic.trace import shares_of

SLACK_S = 5.0  # for a worker's last report, beyond its draining
logger = logging.getLogger(__name__)


class MasterRole(Lead):
    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._runner: MasterRunner = environment.runner
        self._plan: Plan | None = None
        self._draining: set[str] = set()
        self._drained = Event()
        self._runner.register_message(DRAINED, self._on_drained)
        environment.events.worker_report.add_listener(self._on_report)
        environment.events.worker_connect.add_listener(self._on_connect)

    def _on_start(self, **_: Any) -> None:
        _options, files, plan = self._start()
        clients = self._runner.clients
        workers = [each.id for each in (*clients.ready, *clients.spawning, *clients.running)]
        for share, (worker, trace) in enumerate(zip(workers, shares_of(files.trace, len(workers)), strict=True)):
            self._send(worker, plan.model_copy(update={"share": share, "trace": tuple(trace)}))
        self._plan = plan.model_copy(update={"share": len(workers)})

    def _on_connect(self, client_id: str, **_: Any) -> None:
        """A worker that comes late gets users, but no lines of a trace: they are dealt out."""
        if self._plan is not None:
            self._send(client_id, self._plan)
            self._plan = self._plan.model_copy(update={"share": self._plan.share + 1})

    def _send(self, worker: str, plan: Plan) -> None:
        self._runner.send_message(PLAN, plan.model_dump(mode="json"), client_id=worker)

    def _refuse(self, error: Exception) -> NoReturn:
        """Locust's page starts a master's test in a greenlet where nobody listens for a StopTest."""
        logger.error("%s", error)
        raise gevent.GreenletExit

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        if self._collector is not None and REPORT in data:
            self._collector.add(data[REPORT])

    def _on_drained(self, msg: Message, **_: Any) -> None:
        """A worker's last report has come before."""
        self._draining.discard(msg.node_id)
        if not self._draining:
            self._drained.set()

    def _on_stopping(self, **_: Any) -> None:
        if self._collector is None:
            return
        self._collector.stop()
        self._plan = None
        self._draining = {each.id for each in self._runner.clients.all if each.state in (STATE_SPAWNING, STATE_RUNNING)}
        if not self._draining:
            return
        self._drained.clear()
        within_s = self._environment.stop_timeout
        for worker in sorted(self._draining):
            self._runner.send_message(DRAIN, {"within_s": within_s}, client_id=worker)
        if not self._drained.wait(within_s + SLACK_S):
            logger.warning("No last report came from %s: what they counted last is lost", ", ".join(self._draining))

    def _on_stop(self, **_: Any) -> None:
        super()._on_stop()
        self._collector = None

    def _on_quitting(self, **_: Any) -> None:
        self._runner.stop(send_stop_to_client=False)
