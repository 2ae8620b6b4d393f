"""Owns the two servers that are woken from zero: the fleet, and plain Ray Serve with the same checkpoint and delays."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Protocol

import psutil

from loadtests.client import Answer
from loadtests.peers.answers import streamed, streamed_completion
from loadtests.peers.fleet import BenchFleet
from loadtests.peers.server import NotReady, descendants
from loadtests.peers.text_server import TextServer
from loadtests.workload import Job

IDLE_S = 3.0  # without a request, before the last replica stops
MEMORY = "1536MiB"  # of one service: SmolLM2 with its cache takes some 1 GiB, so a second model finds no room
CACHE = "256MiB"
RIVALS = ("warm-a", "warm-b")  # the models of the service whose replica stays
ROUTES_S = 60.0
POLL_S = 0.2


class ColdServer(Protocol):
    """One server at zero. `name` is its column in the report."""

    @property
    def name(self) -> str: ...
    @property
    def ray_logs(self) -> Path:
        """The folder of Ray's logs, once it has started."""
        ...

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def replicas(self) -> list[psutil.Process]:
        """The processes of the service that scales to zero: none at rest."""
        ...

    async def ask(self, job: Job) -> Answer: ...


class ColdFleet(BenchFleet):
    """A fleet of two services: one at zero, and one with a replica that has room for one of its two models."""

    name = "Castalia"

    def __init__(self, folder: Path, work: Path) -> None:
        options = {"source": f"file://{folder}", "cache_memory": CACHE, "prefix_cache": False}
        service = {
            "name": "cold",
            "resources": {"memory": MEMORY},
            "replicas": {"min": 0, "max": 1, "idle_s": IDLE_S},
        }
        warm = {
            "name": "warm",
            "family": "transformer",
            "resources": {"memory": MEMORY},
            "models": [{"id": rival, **options} for rival in RIVALS],
        }
        settings = {"log_level": "INFO"}  # the phases are read from the log
        super().__init__("transformer", options, work, name="cold", service=service, beside=[warm], settings=settings)

    def replicas(self) -> list[psutil.Process]:
        return titled(self.processes(), "ServeReplica:cold:")

    async def ask(self, job: Job) -> Answer:
        return await self.ask_model(self.model, job)

    async def ask_model(self, model: str, job: Job) -> Answer:
        return await streamed_completion(self.url, model, job)


class PlainServe(TextServer):
    """Ray Serve without Castalia, in a Ray of its own."""

    name = "plain Ray Serve"

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(work)
        self._ray = work / "ray"
        command = [sys.executable, "-m", "loadtests.peers.cold_app"]
        # Not "/": a request for it would start a replica.
        self._run([*command, str(folder), str(self._port), str(self._ray), str(IDLE_S)], "/-/healthz")

    @property
    def ray_logs(self) -> Path:
        return self._ray / "session_latest" / "logs"

    def start(self) -> None:
        """Returns when the application has its route, which is later than when Ray Serve answers. Raises NotReady."""
        super().start()
        limit = time.monotonic() + ROUTES_S
        while "/" not in self._routes():
            if time.monotonic() > limit:
                self.stop()
                raise NotReady(f"{self.name} has no route after {ROUTES_S:g} s; see {self._log}")
            time.sleep(POLL_S)

    def replicas(self) -> list[psutil.Process]:
        return titled(descendants(self._server.pid), "ServeReplica:")

    async def ask(self, job: Job) -> Answer:
        body = {"prompt": job.prompt, "max_tokens": job.output_tokens}
        return await streamed(f"{self._url}/v1/completions", body, job)

    def _routes(self) -> dict[str, str]:
        with urllib.request.urlopen(f"{self._url}/-/routes", timeout=5) as response:
            routes: dict[str, str] = json.load(response)
            return routes


def titled(processes: list[psutil.Process], sign: str) -> list[psutil.Process]:
    """Those of them that live and whose command line holds `sign`."""
    return [process for process in processes if sign in _title(process)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too
        return ""


def started_at(process: psutil.Process) -> float:
    """When the process was started, in seconds since the epoch, to a hundredth: psutil's boot time is whole seconds."""
    since_boot = process.create_time() - psutil.boot_time()
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
