"""Owns the fleet that is observed: the services of a models.yaml with keys, traces, and one route that mirrors."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from loadtests.peers.fleet import settings_with_store
from services.fleet import down, up
from services.gateway.store.database import Store
from services.gateway.store.directory import Directory
from services.gateway.store.migrating import migrate
from services.gateway.tenants import Tenant
from shared.config.settings import Settings

NAME = "observed"
TRACE_RATIO = 0.1
BIG, SMALL, SCRAPER = "many-requests", "few-requests", "scraper"  # tenants
A_MINUTE = 12  # requests that SMALL may send
# What models.yaml has not: a name whose requests go to another model as well.
ROUTE = {"name": "mirrored-verse", "targets": [{"model": "verse-rnn"}], "mirror": {"model": "verse-lstm"}}


@dataclass(frozen=True, slots=True)
class Observed:
    """A running fleet, the names that it may be asked for, and a key of each tenant: of two, and of who scrapes it."""

    url: str
    models: Sequence[str]
    big: str
    small: str
    scraper: str


@contextmanager
def fleet_of(models: Path, otlp_endpoint: str, say: Callable[[str], None]) -> Generator[Observed]:
    """Raises FleetError. The work folder's path is short: Ray puts Unix sockets below it."""
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-", dir="/tmp", ignore_cleanup_errors=True) as work:
        settings = settings_with_store(work, otlp_endpoint=otlp_endpoint, trace_ratio=TRACE_RATIO)
        written = with_route(yaml.safe_load(models.read_text()))
        mirrored = Path(work) / "models.yaml"
        mirrored.write_text(yaml.safe_dump(written))
        big, small, scraper = asyncio.run(_make_keys(settings))
        state = up(mirrored, name=NAME, settings=settings, on_progress=say)  # if it fails, nothing of ours is left
        try:
            yield Observed(state.url, names_of(written), big, small, scraper)
        finally:
            down(NAME, settings.home)


def with_route(models: Mapping[str, Any]) -> dict[str, Any]:
    return {**models, "routes": [*models.get("routes", []), ROUTE]}


def names_of(written: Mapping[str, Any]) -> list[str]:
    """What clients may ask for by `model`."""
    models = [model["id"] for service in written["services"] for model in service["models"]]
    return [*models, *(route["name"] for route in written["routes"])]


async def _make_keys(settings: Settings) -> tuple[str, str, str]:
    store = Store.of(settings)
    try:
        await migrate(store)
        directory = Directory(store)
        big = await directory.create_key(BIG)
        small = await directory.create_key(SMALL, _limited)
        scraper = await directory.create_key(SCRAPER, _operator)
        return big.text, small.text, scraper.text
    finally:
        await store.close()


def _limited(tenant: Tenant) -> Tenant:
    return replace(tenant, requests_per_minute=A_MINUTE)


def _operator(tenant: Tenant) -> Tenant:
    return replace(tenant, is_operator=True)
