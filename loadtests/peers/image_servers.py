"""Runs the three ways to serve images that the benchmark compares, and reads their answers."""

from __future__ import annotations

import base64
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtests.client import Answer, ServerFailed, post
from loadtests.peers.fleet import BenchFleet
from loadtests.peers.server import ServerProcess, free_port

STEP_LEVEL = "Castalia (step-level batches)"
BATCH = 32
REQUEST_LEVEL = f"request-level batches of {BATCH} (@serve.batch)"
ONE_BY_ONE = "one by one"
PNG = b"\x89PNG"


@dataclass(frozen=True, slots=True)
class ImageJob:
    steps: int
    seed: int


class ImagePeer(Protocol):
    """One way to serve the model over HTTP. `name` is its row in the report."""

    @property
    def name(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    async def send(self, job: ImageJob) -> Answer: ...


class StepLevel:
    """Castalia: rows join and leave at step boundaries."""

    name = STEP_LEVEL

    def __init__(self, folder: Path, work: Path) -> None:
        options = {"source": f"file://{folder}", "dtype": "bfloat16", "max_batch_size": BATCH}
        self._fleet = BenchFleet("diffusion", options, work)

    def start(self) -> None:
        self._fleet.start()

    def stop(self) -> None:
        self._fleet.stop()

    async def send(self, job: ImageJob) -> Answer:
        body = {"model": self._fleet.model, "prompt": "", "steps": job.steps, "seed": job.seed, "solver": "ddim"}
        return await _ask(f"{self._fleet.url}/v1/images/generations", body, job)


class Diffusers:
    """A diffusers pipeline in a Ray Serve deployment, answering as the images endpoint does."""

    def __init__(self, name: str, batch: int, folder: Path, work: Path) -> None:
        self.name = name
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/"
        module = "loadtests.peers.diffusers_app"
        command = [sys.executable, "-m", module, str(folder), str(port), str(work / f"r{batch}"), str(batch)]
        self._process = ServerProcess(command, self._url, work / f"diffusers-{batch}.log")

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.stop()

    async def send(self, job: ImageJob) -> Answer:
        return await _ask(self._url, {"steps": job.steps, "seed": job.seed}, job)


def request_level(folder: Path, work: Path) -> Diffusers:
    return Diffusers(REQUEST_LEVEL, BATCH, folder, work)


def one_by_one(folder: Path, work: Path) -> Diffusers:
    return Diffusers(ONE_BY_ONE, 1, folder, work)


IMAGE_PEERS = (StepLevel, request_level, one_by_one)


async def _ask(url: str, body: dict[str, object], job: ImageJob) -> Answer:
    """A job's steps count as its tokens; nothing is seen of an image before its end."""
    started = time.perf_counter()
    pieces = [data async for data in post(url, body)]
    ended = time.perf_counter()
    image = base64.b64decode(json.loads(b"".join(pieces))["data"][0]["b64_json"])
    if not image.startswith(PNG):
        raise ServerFailed("the answer holds no PNG")
    return Answer(started, ended, ended, job.steps)
