"""Owns the commands that hand over to the load tests, which are processes of their own and may not be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import typer

from services.cli.context import CliError, gateway_url, tools

# Their options are theirs: `--help` too goes through.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def loadtest(ctx: typer.Context) -> None:
    """Load a fleet as a profile says, and tell whether it may be released."""
    _hand_over(ctx, "loadtests.release.gate", asks_a_gateway=True)


def capacity(ctx: typer.Context) -> None:
    """Find the highest load that each model answers within its objectives."""
    _hand_over(ctx, "loadtests.release.capacity", asks_a_gateway=True)


def plan(ctx: typer.Context) -> None:
    """Simulate replicas, devices and their cost for a forecast of traffic."""
    _hand_over(ctx, "loadtests.planner", asks_a_gateway=False)


def _hand_over(ctx: typer.Context, module: str, *, asks_a_gateway: bool) -> None:
    if find_spec("loadtests") is None or find_spec("locust") is None:
        raise CliError(f"castalia {ctx.info_name} needs Locust: pip install 'castalia[loadtest]'")
    environment = dict(os.environ)
    if asks_a_gateway and "--help" not in ctx.args and "-h" not in ctx.args:
        environment["CASTALIA_URL"] = gateway_url(ctx, environment.get("CASTALIA_URL"))
    tools(ctx).out.file.flush()
    command = [sys.executable, "-m", module, *ctx.args]
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)  # noqa: S603 - our own module
