"""Runs the static batches of `loadtests.peers.static_app`, and reads their answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from loadtests.client import Answer, ServerFailed, post
from loadtests.peers.server import ServerProcess, cpu_by_role, descendants, free_port
from loadtests.workload import Job


class Static:
    name = "static batches of 16 (@serve.batch)"

    def __init__(self, folder: Path, work: Path) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/"
        command = [sys.executable, "-m", "loadtests.peers.static_app", str(folder), str(port), str(work / "ray")]
        self._process = ServerProcess(command, self._url, work / "static.log")

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.stop()

    def cpu_seconds(self) -> Mapping[str, float]:
        return cpu_by_role(descendants(self._process.pid), lambda _: "server")

    async def send(self, job: Job) -> Answer:
        started = time.perf_counter()
        pieces = [data async for data in post(self._url, {"prompt": job.prompt, "max_tokens": job.output_tokens})]
        ended = time.perf_counter()
        tokens = json.loads(b"".join(pieces))["tokens"]
        if tokens != job.output_tokens:
            raise ServerFailed(f"asked for {job.output_tokens} tokens, got {tokens}")
        return Answer(started, ended, ended, tokens)  # nothing is seen before the end
