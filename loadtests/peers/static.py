"""Runs the static batches of `loadtests.peers.static_app`, and asks them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from loadtests.client import Answer
from loadtests.peers.answers import whole
from loadtests.peers.text_server import TextServer
from loadtests.workload import Job


class Static(TextServer):
    name = "static batches of 16 (@serve.batch)"

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(work)
        module = "loadtests.peers.static_app"
        self._run([sys.executable, "-m", module, str(folder), str(self._port), str(work / "ray")])

    async def send(self, job: Job) -> Answer:
        body = {"prompt": job.prompt, "max_tokens": job.output_tokens}
        return await whole(f"{self._url}/", body, job, lambda data: json.loads(data)["tokens"])
