"""Owns which part a process of Locust has in a test: it is alone, or a master, or a worker."""

from __future__ import annotations

import gevent
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.generator.lead import Lead, LocalRole
from loadtests.generator.master import MasterRole
from loadtests.generator.options import BadOption, LoadOptions
from loadtests.generator.plan import CannotAsk, Files
from loadtests.generator.worker import WorkerRole
from loadtests.shapes import shape_of
from loadtests.users.base import MixedUser

GREETING_S = 1.0  # until a master knows the workers that wait for it


def install(environment: Environment) -> None:
    """Call when Locust has made its runner. Exits with a message about options that are wrong."""
    if isinstance(environment.runner, WorkerRunner):
        WorkerRole(environment)
        return
    try:
        options = LoadOptions.of(environment.parsed_options)
        files = Files.of(options)
    except BadOption as error:
        raise _refused(environment, error) from error
    if not (environment.parsed_options.user_classes or environment.parsed_options.class_picker):
        environment.user_classes = [MixedUser]
    environment.shape_class = shape_of(options.shape, environment, trace_s=files.trace[-1].at if files.trace else None)
    lead = MasterRole(environment) if isinstance(environment.runner, MasterRunner) else LocalRole(environment)
    if environment.web_ui is None:
        _prepare(lead, environment)


def _prepare(lead: Lead, environment: Environment) -> None:
    try:
        lead.prepare()
    except (BadOption, CannotAsk) as error:
        raise _refused(environment, error) from error


def _refused(environment: Environment, error: Exception) -> SystemExit:
    """Workers that wait already are sent home: else they would look for their master for minutes."""
    if isinstance(environment.runner, MasterRunner):
        gevent.sleep(GREETING_S)
    environment.runner.quit()
    return SystemExit(f"locust: {error}")
