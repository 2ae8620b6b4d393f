"""Runs what answers at once, and asks it: Castalia with a model that costs nothing, and the peers' bare servers.

Each is asked in two ways: for one small JSON object, and for a stream of an event a letter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from loadtests.client import Answer, ServerFailed, post
from loadtests.peers.fleet import BenchFleet
from loadtests.peers.instant import PIECE, instant_options
from loadtests.peers.text_server import VenvServer
from loadtests.sse import EventReader, StreamCut

LETTERS = "abcdefghijklmnop"  # of a streamed answer: an event each
ROWS = 64


class EchoServer(Protocol):
    """What answers at once over HTTP. An `Answer` counts as one token. `name` is its row in the report."""

    @property
    def name(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def cpu_seconds(self) -> Mapping[str, float]: ...
    def session(self) -> AbstractAsyncContextManager[None]:
        """Entered before it is asked, in the event loop in which it is."""
        ...

    async def answer(self) -> Answer: ...
    async def stream(self) -> Answer: ...


class CastaliaEcho(BenchFleet):
    """The fleet, as `castalia up` starts it: HAProxy, a gateway, a replica."""

    name = "Castalia"

    def __init__(self, work: Path) -> None:
        options = instant_options(work / "instant", ROWS)
        service = {"resources": {"num_cpus": 0.1, "memory": "256MiB"}}
        super().__init__("plugin", options, work, name="overhead", service=service)

    def session(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def answer(self) -> Answer:
        return await whole(f"{self.url}/v1/embeddings", {"model": self.model, "input": "a"})

    async def stream(self) -> Answer:
        body = {
            "model": self.model,
            "input": LETTERS,
            "voice": "any",
            "response_format": "pcm",
            "stream_format": "sse",
        }
        return await streamed(f"{self.url}/v1/audio/speech", body, speech_letters)


class VenvEcho(VenvServer):
    """What the three peers' bare servers have in common: paths and bodies."""

    def session(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def answer(self) -> Answer:
        return await whole(f"{self._url}/answer", {"input": "a"})

    async def stream(self) -> Answer:
        return await streamed(f"{self._url}/stream", {"input": LETTERS}, len)


class FastAPIEcho(VenvEcho):
    name = "FastAPI"
    venv = "fastapi"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._run_in_venv("python", "-m", "loadtests.peers.fastapi_echo", self._port)


class LitServeEcho(VenvEcho):
    name = "LitServe"
    venv = "litserve"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._run_in_venv("python", "-m", "loadtests.peers.litserve_echo", self._port, ready_path="/health")


class BentoMLEcho(VenvEcho):
    name = "BentoML"
    venv = "bentoml"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        arguments = ("serve", "loadtests.peers.bentoml_echo:Echo", "--host", "127.0.0.1", "--port", self._port)
        environment = {"BENTOML_HOME": str(work / "bentoml-echo")}
        self._run_in_venv("bentoml", *arguments, ready_path="/readyz", environment=environment)


ECHO_SERVERS = (CastaliaEcho, FastAPIEcho, LitServeEcho, BentoMLEcho)


async def whole(url: str, body: dict[str, Any]) -> Answer:
    """Raises ServerFailed: the answer holds no vector."""
    started = time.perf_counter()
    data = b"".join([piece async for piece in post(url, body)])
    ended = time.perf_counter()
    if b'"embedding"' not in data:
        raise ServerFailed(f"not the answer that was asked for: {data[:100]!r}")
    return Answer(started, ended, ended, 1)


async def streamed(url: str, body: dict[str, Any], letters: Callable[[list[bytes]], int]) -> Answer:
    """Raises StreamCut: `letters` finds another number of letters in the events than were asked for."""
    reader, events = EventReader(), list[bytes]()
    started = time.perf_counter()
    first = None
    async for data in post(url, body):
        events += reader.feed(data)
        first = first or (time.perf_counter() if events else None)
    ended = time.perf_counter()
    got = letters(events) if events else 0
    if first is None or got != len(LETTERS):
        raise StreamCut(f"asked for {len(LETTERS)} letters, got {got}")
    return Answer(started, first, ended, 1)


def speech_letters(events: list[bytes]) -> int:
    """How many steps' pieces are in OpenAI's events of speech. Raises StreamCut: the last one is missing."""
    read = [json.loads(event) for event in events if event != b"[DONE]"]
    if not read or read[-1]["type"] != "speech.audio.done":
        raise StreamCut("the stream ended without speech.audio.done")
    return sum(len(event["audio"]) for event in read[:-1]) * 3 // 4 // len(PIECE)
