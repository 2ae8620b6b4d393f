"""The static batches that `@serve.batch` gives: `python -m loadtests.peers.static_app FOLDER PORT RAY_FOLDER`.

A batch of up to 16 prompts goes through `model.generate` as one; everyone waits for its longest answer. Ray Serve and
Hugging Face as their documentation shows them.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import serve
from starlette.requests import Request

from loadtests.peers.batches import Prompt, StaticModel
from loadtests.peers.ray_app import run_until_terminated

BATCH = 16
GATHER_S = 0.1  # how long an incomplete batch waits for more


@serve.deployment(max_ongoing_requests=4 * BATCH, ray_actor_options={"num_cpus": 0.1})
class StaticBatches:
    def __init__(self, folder: str) -> None:
        self._model = StaticModel(folder)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=GATHER_S)
    async def generate(self, prompts: list[Prompt]) -> list[dict[str, Any]]:
        return [asdict(text) for text in await asyncio.to_thread(self._model.generate, prompts)]

    async def __call__(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            return {"status": "ok"}
        job = await request.json()
        return await self.generate(Prompt(job["prompt"], job["max_tokens"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("ray_folder", help="Ray's files; a short path, for it holds unix sockets")
    arguments = parser.parse_args()
    run_until_terminated(
        StaticBatches.bind(str(arguments.folder)), port=arguments.port, ray_folder=arguments.ray_folder
    )


if __name__ == "__main__":
    main()
