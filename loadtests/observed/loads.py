"""Owns what the observed fleet is asked for: every model once, then a mix of all, beside what goes wrong."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from loadtests.objectives import Objectives
from loadtests.observed.fleet import Observed
from loadtests.observed.trouble import MODEL, Troubles, make_trouble
from loadtests.release import load
from loadtests.release.load import Load
from loadtests.summary import Summary

# Weighted by how many models do it, so that each model is asked for some eight times in five minutes.
MODALITIES = (
    "chat=2,completion=4,embedding=7,image=8,edit=2,variation=1,interpolation=2,reconstruction=1,score=3,record=2,"
    "molecule=1,music=1,level=1,forecast=2,speech=1,sound=1"
)
PER_SECOND = 1.0
WAKE_S = 60.0
KEY = "CASTALIA_API_KEY"  # where Locust reads it
Tick = Callable[[float], None]


def wake(fleet: Observed, tick: Tick) -> Summary:
    """Ask one after the other: what edits and scores is woken before the clock starts. Raises LoadFailed."""
    return _send(fleet, Load(clients=2, seconds=WAKE_S, model=_models(fleet), max_tokens=8, seed=1), tick)


def mix(fleet: Observed, seconds: float, tick: Tick) -> tuple[Summary, Troubles]:
    """Raises LoadFailed, httpx.HTTPError."""
    asked = Load(
        per_second=PER_SECOND, seconds=seconds, modalities=MODALITIES, model=_models(fleet), max_tokens=32, seed=2
    )
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        troubles = pool.submit(asyncio.run, make_trouble(fleet, is_over))
        try:
            summary = _send(fleet, asked, tick)
        finally:
            is_over.set()
        return summary, troubles.result()


def _models(fleet: Observed) -> str:
    """All but the one that has trouble enough."""
    return ",".join(name for name in fleet.models if name != MODEL)


def _send(fleet: Observed, asked: Load, tick: Tick) -> Summary:
    with _as_tenant(fleet.big):
        return load.run(asked, url=fleet.url, objectives=Objectives({}), tick=tick)


@contextmanager
def _as_tenant(key: str) -> Generator[None]:
    before = os.environ.get(KEY)
    os.environ[KEY] = key
    try:
        yield
    finally:
        del os.environ[KEY]
        if before is not None:
            os.environ[KEY] = before
