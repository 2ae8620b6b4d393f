"""A server of Castalia's wire formats on a free port, in a thread: what it says is as bad as a model's name tells.

Models: `good`; `refuses` (503), `refuses-badly` (503 of another form), `misses` (504), `cuts` (a connection cut inside
an answer), `ends-early` (a stream that ends well without [DONE]), `breaks` (an error inside a stream), `wrong` (400).
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from loadtests.client import read_head
from loadtests.users.table import MODALITIES
from shared.schemas.common import ModelCard, ModelList

TASKS = tuple(MODALITIES)
BAD = ("refuses", "refuses-badly", "misses", "cuts", "ends-early", "breaks", "wrong")
QUEUE_MS = 7.5
TOKENS = 4
SSE, NDJSON, JSON = "text/event-stream", "application/x-ndjson", "application/json"


class _Cut(Exception):
    pass


@dataclass(slots=True)
class Request:
    """As the server saw it. `at` is of `time.perf_counter`."""

    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class FakeFleet:
    """`gap_s` is before each piece of a stream. While `stalled_until`, nothing is answered."""

    tasks: tuple[str, ...] = TASKS
    modalities: tuple[str, ...] = ("image",)
    gap_s: float = 0.01
    url: str = ""
    requests: list[Request] = field(default_factory=list[Request])
    connections: list[float] = field(default_factory=list[float])  # when each was made
    stalled_until: float = 0.0
    key: str | None = None

    def of(self, path: str, model: str = "") -> list[Request]:
        return [each for each in self.requests if each.path == path and model in ("", each.body.get("model"))]

    @contextmanager
    def serving(self) -> Generator[FakeFleet]:
        loop = asyncio.new_event_loop()
        started, server = threading.Event(), None

        async def start() -> None:
            nonlocal server
            server = await asyncio.start_server(self._handle, "127.0.0.1", 0, limit=2**24)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()

        async def stop() -> None:
            assert server is not None
            server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            loop.stop()

        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop)
            thread.join(10)
            loop.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(time.perf_counter())
        with suppress(asyncio.IncompleteReadError, ConnectionError, _Cut, asyncio.CancelledError):
            while True:
                await self._one(reader, writer)
        writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n")).decode()
        at, path = time.perf_counter(), line.split()[1]
        _, headers = await read_head_after(line, reader)
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        body = json.loads(data) if data else {}
        self.requests.append(Request(at, path, headers, body))
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            await _whole(writer, 401, error("invalid_api_key"))
        elif path == "/v1/models":
            await _whole(writer, 200, self.models().model_dump_json().encode())
        else:
            while time.perf_counter() < self.stalled_until:  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.005)
            await self._answer(writer, path, body)

    def models(self) -> ModelList:
        common: dict[str, Any] = {"created": 0, "owned_by": "castalia", "family": "f", "license": "l", "revision": "r"}
        common |= {"tasks": list(self.tasks), "modalities": list(self.modalities), "limits": {}}
        cards = [ModelCard(id="cold", state="cold", **common)]
        return ModelList(data=cards + [ModelCard(id=name, state="ready", **common) for name in ("good", *BAD)])

    async def _answer(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any]) -> None:
        retry = {"Retry-After": "2"}
        match body["model"]:
            case "refuses":
                await _whole(writer, 503, error("server_is_overloaded"), retry)
            case "refuses-badly":
                await _whole(writer, 503, b"busy", retry)
            case "misses":
                await _whole(writer, 504, error("deadline_exceeded"))
            case "wrong":
                await _whole(writer, 400, error("invalid_value"))
            case model:
                await self._ok(writer, path, body, model)

    async def _ok(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any], model: str) -> None:
        kind, parts = parts_of(path, body)
        if kind == JSON:
            if model == "cuts":
                _head(writer, 200, kind, {"Content-Length": str(len(parts[0]) + 9)})
                writer.write(parts[0])
                raise _Cut
            await _whole(writer, 200, parts[0], {"Server-Timing": f"queue;dur={QUEUE_MS}"})
            return
        _head(
            writer, 200, kind, {"Transfer-Encoding": "chunked", "Server-Timing": f"admit;dur=1, queue;dur={QUEUE_MS}"}
        )
        async for part in self._spoiled(parts, model):
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _spoiled(self, parts: list[bytes], model: str) -> AsyncGenerator[bytes]:
        for number, part in enumerate(parts):
            await asyncio.sleep(self.gap_s)
            if number == len(parts) - 1 and model in ("cuts", "ends-early", "breaks"):
                if model == "breaks":
                    yield b"data: " + error("internal_error") + b"\n\n"
                if model != "ends-early":
                    raise _Cut
                return
            yield part


async def read_head_after(first: str, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """A request's headers, by the reader of responses."""
    fed = asyncio.StreamReader()
    fed.feed_data(b"HTTP/1.1 200 OK\r\n" + await reader.readuntil(b"\r\n\r\n"))
    return await read_head(fed)


def error(code: str) -> bytes:
    return json.dumps({"error": {"message": "m", "type": "t", "param": None, "code": code}}).encode()


def _head(writer: asyncio.StreamWriter, status: int, kind: str, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {kind}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())


async def _whole(writer: asyncio.StreamWriter, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
    _head(writer, status, JSON, {"Content-Length": str(len(data)), **(headers or {})})
    writer.write(data)
    await writer.drain()


def parts_of(path: str, body: dict[str, Any]) -> tuple[str, list[bytes]]:
    """The media type of an answer, and its pieces."""
    stream = body.get("stream", False)
    match path.removeprefix("/v1/"):
        case "chat/completions" | "completions":
            return SSE, [*(_event(text(path, i)) for i in range(TOKENS)), _event(USAGE), DONE]
        case "audio/speech":
            if body.get("stream_format") != "sse":
                return "audio/mpeg", [b"abc\ndef", b"\x00" * 50, b"tail"]
            pieces = [{"type": "speech.audio.delta", "audio": "aa"}] * 2
            return SSE, [*map(_event, pieces), _event({"type": "speech.audio.done", "usage": {}}), DONE]
        case "interpolations":
            return JSON, [json.dumps({"frames": [{}] * body["frames"]}).encode()]
        case "audio/generations" | "images/generations" | "images/edits" | "images/variations" if stream:
            return SSE, _streamed(path, body)
        case _ if stream:
            items = [
                json.dumps({"object": "item", "error": 0.5, "index": i}).encode() + b"\n" for i in range(count(body))
            ]
            return NDJSON, [*items, b'{"object":"list.end"}\n']
        case _:
            return JSON, [json.dumps({"data": [item(path, i) for i in range(count(body))]}).encode()]


def _streamed(path: str, body: dict[str, Any]) -> list[bytes]:
    end = "audio.generation.completed" if "audio" in path else "image.completed"
    piece = {"type": "x.partial", "audio" if "audio" in path else "b64_json": "aa"}
    pieces = [piece, piece, {"type": end, **({} if "audio" in path else {"b64_json": "aa"})}]
    return [*(_event(each) for _ in range(count(body)) for each in pieces), DONE]


def count(body: dict[str, Any]) -> int:
    given = body.get("input")
    return body.get("n", 1) if given is None else len(given) if isinstance(given, list) else 1


def item(path: str, index: int) -> dict[str, Any]:
    return {"index": index, "record": {"a": index}, "smiles": "C" * (index + 1), "b64_json": PICTURE, "seed": 1}


def text(path: str, index: int) -> dict[str, Any]:
    finish = "stop" if index == TOKENS - 1 else None
    said = {"delta": {"content": "a"}} if "chat" in path else {"text": "a"}
    return {"choices": [{"index": 0, **said, "finish_reason": finish}]}


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def _picture() -> str:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PICTURE = _picture()
DONE = b"data: [DONE]\n\n"
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": TOKENS, "total_tokens": 3 + TOKENS}}
