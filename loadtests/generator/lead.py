"""Owns what the process does that a person speaks to: the plan before a test, the sum and the summary after it.

Without Locust's page the plan is made before Locust starts its clock: a model that has to wake takes none of
`--run-time`.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any, NoReturn

from locust.env import Environment
from locust.exception import StopTest

from loadtests.generator.collector import Collector, doubts
from loadtests.generator.exchange import Client
from loadtests.generator.options import BadOption, LoadOptions, api_key
from loadtests.generator.plan import CannotAsk, Files, Plan, make_plan
from loadtests.generator.process import Process
from loadtests.generator.worker import begin

logger = logging.getLogger(__name__)


Made = tuple[LoadOptions, Files, Plan]


class Lead:
    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._collector: Collector | None = None
        self._made: Made | None = None
        events = environment.events
        events.test_start.add_listener(self._on_start)
        events.test_stopping.add_listener(self._on_stopping)
        events.test_stop.add_listener(self._on_stop)
        events.quitting.add_listener(self._on_quitting)

    def prepare(self) -> None:
        """Make the next test's plan. Raises BadOption, CannotAsk."""
        environment = self._environment
        options = LoadOptions.of(environment.parsed_options)
        files = Files.of(options)
        classes = environment.user_classes
        named = {each.asks_for for each in classes if each.asks_for}
        with closing(client_of(environment.host)) as client:
            plan = make_plan(client, options, files, named=named, is_mixed=len(named) < len(classes))
        asked = "; ".join(f"{task}: {', '.join(each.model for each in found)}" for task, found in plan.targets.items())
        logger.info("Asking for %s", asked)
        self._made = options, files, plan

    def _start(self) -> Made:
        """Stops the test if it cannot be run."""
        try:
            if self._made is None:
                self.prepare()
        except (BadOption, CannotAsk) as error:
            self._refuse(error)
        assert self._made is not None
        made, self._made = self._made, None
        self._collector = Collector(self._environment.host or "", made[0])
        return made

    def _refuse(self, error: Exception) -> NoReturn:
        raise StopTest(str(error))

    def _on_stop(self, **_: Any) -> None:
        if self._collector is None:
            return
        summary = self._collector.summary()
        for doubt in doubts(summary):
            logger.warning("%s", doubt)
        if path := LoadOptions.of(self._environment.parsed_options).summary:
            summary.write(path)
            logger.info("Summary written to %s", path)

    def _on_start(self, **_: Any) -> None:
        raise NotImplementedError

    def _on_stopping(self, **_: Any) -> None:
        raise NotImplementedError

    def _on_quitting(self, **_: Any) -> None:
        raise NotImplementedError


def client_of(host: str | None) -> Client:
    try:
        return Client(host or "", connections=1, key=api_key())
    except ValueError as error:
        raise BadOption(str(error)) from error


class LocalRole(Lead):
    """The only process."""

    _process: Process | None = None

    def _on_start(self, **_: Any) -> None:
        options, files, plan = self._start()
        plan = plan.model_copy(update={"trace": files.trace})
        self._process = begin(self._environment, options, plan)

    def _on_stopping(self, **_: Any) -> None:
        if self._process is not None and self._collector is not None:
            self._collector.stop()
            self._process.drain(self._environment.stop_timeout)

    def _on_stop(self, **_: Any) -> None:
        if self._process is not None and self._collector is not None:
            self._process.end()
            self._collector.add(self._process.take())
            super()._on_stop()
            self._process = self._collector = None

    def _on_quitting(self, **_: Any) -> None:
        self._environment.runner.stop()
