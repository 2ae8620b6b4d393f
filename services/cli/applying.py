"""Owns what differs between two configurations of a fleet, and how its models have taken the newer one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from services.cli.client import Client
from services.cli.comparing import Change, Entry, Unit, compare
from services.cli.context import CliError

if TYPE_CHECKING:
    from shared.config.models import FleetConfig

LOOK_EVERY_S = 0.25
# A gateway shows a replica's report for a second: only what it says for longer is about the new configuration.
QUIET_LOOKS = 6
MOST_LOOKS = 7200  # half an hour: weights may have to be fetched and converted


def differences(before: FleetConfig, after: FleetConfig) -> list[Change]:
    """What was added, removed or changed. A default that is written out is no difference."""
    return compare(_entries(before), _entries(after))


def wait_loaded(
    client: Client, after: FleetConfig, changes: list[Change], *, sleep: Callable[[float], None]
) -> dict[str, str]:
    """Wait until no replica of a service with changes loads; return the states of the models that are new or changed.

    "ready", "failed", or "cold": it is loaded when it is asked for. Raises CliError as `Client.models` does.
    """
    touched = {(change.kind, change.name) for change in changes if change.what != "removed"}
    watched: set[str] = set()
    new: set[str] = set()
    for service in after.services:
        whole = ("service", service.name) in touched
        ours = {model.id for model in service.models if whole or ("model", model.id) in touched}
        new |= ours
        watched |= {model.id for model in service.models} if ours else set()
    quiet = 0 if new else QUIET_LOOKS
    states: dict[str, str] = {}
    for _ in range(MOST_LOOKS):
        if quiet == QUIET_LOOKS:
            return {model: state for model, state in states.items() if model in new}
        sleep(LOOK_EVERY_S)
        states = {model.id: model.state for model in client.models()}
        quiet = 0 if any(states.get(model) == "loading" for model in watched) else quiet + 1
    raise CliError(f"applied, but after {MOST_LOOKS * LOOK_EVERY_S / 60:g} minutes models are still being loaded")


def _entries(fleet: FleetConfig) -> Mapping[Unit, Entry]:
    """The options of every service, model and route, by kind and name. A model's service is one of its options."""
    entries: dict[Unit, Entry] = {}
    for service in fleet.services:
        entries["service", service.name] = service.model_dump(exclude={"models"})
        for model in service.models:
            entries["model", model.id] = {"service": service.name, **model.model_dump()}
    for route in fleet.routes:
        entries["route", route.name] = route.model_dump()
    return entries
