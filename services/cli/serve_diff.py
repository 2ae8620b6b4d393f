"""Owns what differs between two configurations of Ray Serve, service by service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.app import GATEWAY_APP
from services.cli.comparing import Entry, Unit, compare

NAMING = ("name", "id")  # what tells the entries of a list apart


@dataclass(frozen=True, slots=True)
class Difference:
    """A service, route or the fleet itself that differs; `lines` say where, if it is in both."""

    what: str
    kind: str
    name: str
    lines: tuple[str, ...] = ()


def serve_differences(deployed: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Difference]:
    """What deploying `wanted` would add, remove and change. A default that is written out is no difference."""
    old, new = _units(deployed), _units(wanted)
    found: list[Difference] = []
    for change in compare(old, new):
        unit = change.kind, change.name
        lines = (f"{key}: {_shown(old[unit], key)} -> {_shown(new[unit], key)}" for key in change.fields)
        found.append(Difference(change.what, *unit, tuple(lines)))
    return found


def _shown(leaves: Entry, key: str) -> str:
    return repr(leaves[key]) if key in leaves else "nothing"


def _units(config: Mapping[str, Any]) -> dict[Unit, Entry]:
    """The leaves of each part that a person thinks of by its name.

    The gateway is told all services again: of those it shows what no application does, remote servers and routes.
    """
    units: dict[Unit, Entry] = {}
    applications = {app.get("name", ""): app for app in config.get("applications", [])}
    for name, app in applications.items():
        if name != GATEWAY_APP:
            units["service", name] = dict(_leaves(_read(app)))
    gateway = applications.get(GATEWAY_APP, {})
    told: Mapping[str, Any] = next((each.get("user_config", {}) for each in gateway.get("deployments", [])), {})
    told = _read_fleet(told)
    for service in told.get("services", []):
        if service.get("name") not in applications:
            units["service", service["name"]] = dict(_leaves(service))
    for route in told.get("routes", []):
        units["route", route["name"]] = dict(_leaves(route))
    bare = [{key: each[key] for key in each if key != "user_config"} for each in gateway.get("deployments", [])]
    if gateway:
        units["the", GATEWAY_APP] = dict(_leaves({**gateway, "deployments": bare}))
    units["the", "fleet"] = dict(_leaves({key: value for key, value in config.items() if key != "applications"}))
    return units


def _read(app: Mapping[str, Any]) -> dict[str, Any]:
    """An application whose models are as its replicas read them: sizes in bytes, defaults filled in."""
    deployments = [dict(each) for each in app.get("deployments", [])]
    for deployment in deployments:
        if "user_config" in deployment:
            fleet = _read_fleet({"services": [deployment["user_config"]]})
            deployment["user_config"] = fleet["services"][0]
    return {**app, "deployments": deployments}


def _read_fleet(fleet: Mapping[str, Any]) -> Mapping[str, Any]:
    """As the fleet reads it; as it is where this version would not take it."""
    from pydantic import ValidationError

    from shared.config.models import FleetConfig

    try:
        return FleetConfig.model_validate(fleet).model_dump(mode="json")
    except ValidationError:
        return fleet


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value with its path. Entries of a list go by their name or id: moving one is no difference."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value and all(_name_of(item) is not None for item in value):
        for item in value:
            yield from _leaves(item, f"{path}[{_name_of(item)}]")
    else:
        yield path, value


def _name_of(item: object) -> object:
    if not isinstance(item, Mapping):
        return None
    return next((item[key] for key in NAMING if key in item), None)
