"""A dispatcher that plays scripts, and gateways built on it."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from services.gateway.logs import make_log
from services.gateway.routes_pages import load_pages
from services.gateway.state import GatewayState, Tempo
from services.gateway.web import build_app
from shared.calls import Call
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.events import Accepted, Failed, Finished, RowEvent, TextDelta, TokenIds, TokenLogprob
from shared.reports import Histogram, ModelReport, ModelState, ReplicaReport
from shared.schemas.text import ChatRequest, CompletionRequest, DetokenizeRequest
from shared.tracing import Tracer

Script = Callable[[Call], AsyncGenerator[list[RowEvent], None]]
MODEL = "tiny"
OTHER = "org/other"
FLEET = FleetConfig.model_validate(
    {
        "services": [
            {"name": "chat", "family": "transformer", "models": [{"id": MODEL, "source": "builtin://tiny"}]},
            {
                "name": "cold",
                "family": "transformer",
                "replicas": {"min": 0},
                "models": [{"id": OTHER, "source": "builtin://other", "license": "MIT"}],
            },
        ]
    }
)
PAGES = load_pages()
HELLO = ("Hello", " wor", "ld ☃", '"\n')


def logprob(text: str, value: float = -0.5, *, top: Sequence[str] = (), offset: int = 0) -> TokenLogprob:
    return TokenLogprob(text, 7, tuple(text.encode()), value, tuple(logprob(t, -1.5) for t in top), offset)


async def speak(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    """Answer every row with HELLO, and logprobs where they are asked for."""
    body = call.body
    if isinstance(body, DetokenizeRequest):
        yield [
            RowEvent(0, Accepted(1)),
            RowEvent(0, TextDelta("-".join(map(str, body.tokens)), len(body.tokens), 0)),
            RowEvent(0, Finished("stop", 0)),
        ]
        return
    if not isinstance(body, ChatRequest | CompletionRequest):
        yield [RowEvent(0, Accepted(1)), RowEvent(0, TokenIds((1, 2), ("a", "☃"))), RowEvent(0, Finished("stop", 0))]
        return
    rows = body.n if isinstance(body, ChatRequest) else body.n * len(body.prompts)
    wants = body.logprobs is not None and body.logprobs is not False
    batch = [RowEvent(0, Accepted(rows))]
    if call.flush_s is not None:
        yield batch
        batch = []
    for i, text in enumerate(HELLO):
        offset = len("".join(HELLO[:i]))
        logprobs = (logprob(text, top=("x", "y"), offset=offset),) if wants else None
        batch += [RowEvent(row, TextDelta(text, 5, i + 1, logprobs)) for row in range(rows)]
        if call.flush_s is not None:
            yield batch
            batch = []
    yield batch + [RowEvent(row, Finished("stop", 9)) for row in range(rows)]


def fail_with(failure: Failed) -> Script:
    async def script(_: Call) -> AsyncGenerator[list[RowEvent], None]:
        yield [RowEvent(0, failure)]

    return script


def play(*batches: list[RowEvent] | BaseException | asyncio.Event) -> Script:
    """Yield the batches, raise the exceptions, wait for the events."""

    async def script(_: Call) -> AsyncGenerator[list[RowEvent], None]:
        for batch in batches:
            if isinstance(batch, asyncio.Event):
                await batch.wait()
            elif isinstance(batch, BaseException):
                raise batch
            else:
                yield batch

    return script


def text(*pieces: str, row: int = 0) -> list[RowEvent]:
    return [RowEvent(row, TextDelta(piece, 5, i + 1)) for i, piece in enumerate(pieces)]


ACCEPTED = [RowEvent(0, Accepted(1))]
STOPPED = [RowEvent(0, Finished("stop", 1))]


def report(model: str = MODEL, *, service: str = "chat", state: ModelState = "ready", replica: str = "r1") -> Any:
    histogram = Histogram((0.1, 1.0), (3, 2, 1), 4.5)
    entry = ModelReport(
        model=model,
        state=state,
        revision="abc",
        limits={"context_length": 64.0},
        memory=1000,
        waiting_rows=1,
        waiting_cost=12.0,
        running_rows=2,
        steps=10,
        row_steps=15,
        units=99.5,
        finished={"stop": 4, "abort": 1},
        queue_seconds=histogram,
        first_chunk_seconds=histogram,
        step_seconds=histogram,
    )
    return ReplicaReport(service, replica, (entry,), healthy=True)


@dataclass
class FakeDispatcher:
    """Plays a script a call: the first that is left in `scripts`, else `default`."""

    default: Script = speak
    scripts: list[Script] = field(default_factory=list)
    known: dict[str, Sequence[ReplicaReport] | Exception] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    calls: list[tuple[str, Call]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    open: int = 0
    is_closed: bool = False
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, service: str, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        self.calls.append((service, call))
        script = self.scripts.pop(0) if self.scripts else self.default
        self.open += 1
        self.opened.set()
        try:
            async for batch in script(call):
                yield batch
        finally:
            self.open -= 1
            self.closed.set()

    async def ping(self, service: str) -> None:
        if service in self.dead:
            await asyncio.Event().wait()

    async def reports(self, service: str) -> Sequence[ReplicaReport]:
        self.asked.append(service)
        known = self.known.get(service, ())
        if isinstance(known, Exception):
            raise known
        return known

    async def close(self) -> None:
        self.is_closed = True


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Gateway:
    """A gateway on a fake dispatcher, with its log at hand."""

    dispatcher: FakeDispatcher
    state: GatewayState
    app: FastAPI
    log_text: io.StringIO

    def client(self, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", **options)

    def log_lines(self, event: str = "request") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log_text.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


def make_gateway(
    dispatcher: FakeDispatcher | None = None,
    *,
    tempo: Tempo | None = None,
    fleet: FleetConfig | None = FLEET,
    tracer: Tracer | None = None,
    **env: Any,
) -> Gateway:
    dispatcher = dispatcher or FakeDispatcher()
    settings = Settings(**{"home": Path("/nonexistent"), "database_url": "sqlite://", **env})
    log_text = io.StringIO()
    state = GatewayState.make(
        settings,
        dispatcher,
        make_log("DEBUG", log_text),
        tempo=replace(tempo or Tempo(), now=lambda: 1_700_000_000.0),
        rng=random.Random(0),
        tracer=tracer,
    )
    if fleet is not None:
        state.configure(fleet)
    return Gateway(dispatcher, state, build_app(state, PAGES), log_text)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}


def events_of(body: str) -> list[Any]:
    """The data of every event of a stream, parsed; comments are left out."""
    data = [block.removeprefix("data: ") for block in body.split("\n\n") if block.startswith("data: ")]
    return [block if block == "[DONE]" else json.loads(block) for block in data]
