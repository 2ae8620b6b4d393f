"""A remote server that plays scripts, and dispatchers that reach it by httpx's MockTransport."""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.gateway.logs import make_log
from services.gateway.upstreams import UpstreamDispatcher
from services.gateway.upstreams.server import Timing
from shared.calls import Call
from shared.config.models import FleetConfig
from shared.config.upstream import UpstreamService
from shared.events import Finished, RowEvent, TextDelta
from shared.schemas.text import ChatRequest, CompletionRequest, SamplingRequest

SECRET = "sk-remote-4711-secret"
HOST = "far.example"
MODEL, REMOTE_MODEL = "near", "far-model-2026"
ENVIRON = {"FAR_KEY": SECRET}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}

Script = Callable[[httpx.Request], httpx.Response] | httpx.Response | Exception


def entry(**changes: Any) -> dict[str, Any]:
    models = [{"id": MODEL, "remote_id": REMOTE_MODEL}]
    base = {"name": "far", "family": "upstream", "url": f"https://{HOST}/v1", "secret_env": "FAR_KEY", "models": models}
    return {**base, **changes}


def service(**changes: Any) -> UpstreamService:
    return FleetConfig.model_validate({"services": [entry(**changes)]}).upstreams[0]


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields})


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": MODEL, "prompt": "once", **fields})


def call(
    body: SamplingRequest | None = None,
    *,
    stream: bool = False,
    deadline_s: float | None = 60.0,
    tenant: str = "default",
) -> Call:
    body = (body or chat()).model_copy(update={"stream": True} if stream else None)
    task = "chat" if isinstance(body, ChatRequest) else "completion"
    return Call("req_1", MODEL, task, body, tenant, deadline_s=deadline_s)


def answer(*texts: str, usage: Any = USAGE, reason: str | None = "stop") -> httpx.Response:
    """A whole chat completion with these choices."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": reason}
        for i, text in enumerate(texts or ("Hello there",))
    ]
    return httpx.Response(200, json={"id": "x", "object": "chat.completion", "choices": choices, "usage": usage})


def chunk(text: str | None = None, *, row: int = 0, reason: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choices = [{"index": row, "delta": delta, "finish_reason": reason}]
    return event({"object": "chat.completion.chunk", "choices": choices, **more})


def event(body: Any) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


USAGE_CHUNK = event({"choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
HELLO = (chunk(""), chunk("Hel"), chunk("lo"), chunk(reason="stop"), USAGE_CHUNK, DONE)


class Pieces(httpx.AsyncByteStream):
    """A body that comes in pieces; an exception among them is raised in its turn."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self._pieces = pieces
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.is_closed = True


def streamed(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, stream=Pieces(pieces))


def error(status: int, message: str = "no", *, headers: dict[str, str] | None = None, **detail: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, **detail}}, headers=headers)


@dataclass
class Remote:
    """Plays a script a request; the last one is repeated. Time passes only in sleeps, or by hand."""

    scripts: list[Script]
    requests: list[httpx.Request] = field(default_factory=list[httpx.Request])
    slept: list[float] = field(default_factory=list[float])
    now: float = 1000.0
    log: io.StringIO = field(default_factory=io.StringIO)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if isinstance(script, Exception):
            raise script
        response = script if isinstance(script, httpx.Response) else script(request)
        stream = Pieces([response.content]) if response.is_stream_consumed else response.stream
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def dispatcher(self, *, environ: dict[str, str] = ENVIRON, **changes: Any) -> UpstreamDispatcher:
        dispatcher = UpstreamDispatcher(
            make_log("DEBUG", self.log),
            environ=environ,
            transport=httpx.MockTransport(self.handle),
            timing=Timing(clock=lambda: self.now, sleep=self.sleep, rng=random.Random(0)),
        )
        dispatcher.configure([service(**changes)])
        return dispatcher

    @property
    def said(self) -> Any:
        """The body of the last request."""
        return json.loads(self.requests[-1].content)


async def events(dispatcher: UpstreamDispatcher, call: Call) -> list[RowEvent]:
    return [event async for batch in dispatcher.stream("far", call) for event in batch]


def text_of(found: Sequence[RowEvent], row: int = 0) -> str:
    return "".join(event.text for at, event in found if at == row and isinstance(event, TextDelta))


def ends_of(found: Sequence[RowEvent]) -> list[tuple[int, str, float]]:
    return [(row, event.reason, event.units) for row, event in found if isinstance(event, Finished)]
