"""Runs one service of fake models, and asks of it what a gateway would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.families import LoadedModel
from services.model_service import ModelService
from shared.calls import Call
from shared.events import Event, Failed
from shared.reports import ModelReport
from shared.schemas.text import DetokenizeRequest
from shared.tracing import NO_TRACER, Tracer
from tests.unit.replica.fakes import Loader, service

ENDLESS = 10**9


def call(*steps: int, model: str = "a", task: str = "generate", **changes: Any) -> Call:
    body = DetokenizeRequest(model=model, tokens=list(steps))
    return Call(request_id="req_1", model=model, task=task, body=body, **changes)


@asynccontextmanager
async def running(
    *models: LoadedModel | Exception, tracer: Tracer = NO_TRACER, **changes: Any
) -> AsyncIterator[ModelService]:
    """A started service of models a, b, c ..."""
    ids = "abcdef"[: len(models)]
    host = ModelService(
        service(*ids, **changes),
        replica="r",
        hold_s=10,
        resolve=lambda source: Path("/none"),
        loader=Loader(dict(zip(ids, models, strict=True))),
        tracer=tracer,
    )
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def events(host: ModelService, what: Call) -> list[Event]:
    return [event async for batch in host.stream(what) for _, event in batch]


async def failure(host: ModelService, what: Call) -> Failed:
    (event,) = await events(host, what)
    assert isinstance(event, Failed)
    return event


def report_of(host: ModelService, model: str = "a") -> ModelReport:
    return next(entry for entry in host.report().models if entry.model == model)
