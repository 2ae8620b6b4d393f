"""A diffusers pipeline behind Ray Serve: `python -m loadtests.peers.diffusers_app FOLDER PORT RAY_FOLDER BATCH`.

A batch of up to BATCH requests is split by their numbers of steps, since a pipeline takes one, and each part goes
through the pipeline as one; everyone waits for the whole batch. BATCH of 1 serves one by one. Ray Serve and diffusers
as their documentation shows them.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import torch
from ray import serve
from starlette.requests import Request

from loadtests.peers.ray_app import run_until_terminated

GATHER_S = 0.05  # how long an incomplete batch waits for more


def run_in_half(unet: torch.nn.Module) -> None:
    """In bfloat16 and channels last, as ours runs; its answers in float32, for a pipeline can return nothing less."""
    unet.to(torch.bfloat16, memory_format=torch.channels_last)
    unet.register_forward_pre_hook(
        lambda _, inputs: (inputs[0].to(torch.bfloat16, memory_format=torch.channels_last), *inputs[1:])
    )
    unet.register_forward_hook(lambda _, inputs, answer: type(answer)(sample=answer.sample.float()))


@serve.deployment(max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.1})
class Pipeline:
    def __init__(self, folder: str, batch: int) -> None:
        from diffusers import DDIMPipeline  # noqa: PLC0415 - in the replica alone

        torch.set_num_threads(1)
        self._pipeline: Any = DDIMPipeline.from_pretrained(folder)
        run_in_half(self._pipeline.unet)
        self._pipeline.set_progress_bar_config(disable=True)
        self.draw.set_max_batch_size(batch)
        self._one = asyncio.Lock()

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=GATHER_S)
    async def draw(self, jobs: list[dict[str, Any]]) -> list[str]:
        async with self._one:
            return await asyncio.to_thread(self._draw, jobs)

    def _draw(self, jobs: list[dict[str, Any]]) -> list[str]:
        images: dict[int, Any] = {}
        for steps in sorted({job["steps"] for job in jobs}):
            alike = [i for i, job in enumerate(jobs) if job["steps"] == steps]
            draws = [torch.Generator().manual_seed(jobs[i]["seed"]) for i in alike]
            made = self._pipeline(batch_size=len(alike), generator=draws, num_inference_steps=steps).images
            images.update(zip(alike, made, strict=True))
        return [_png(images[i]) for i in range(len(jobs))]

    async def __call__(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            return {"status": "ok"}
        return {"data": [{"b64_json": await self.draw(await request.json())}]}


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("ray_folder", help="Ray's files; a short path, for it holds unix sockets")
    parser.add_argument("batch", type=int)
    arguments = parser.parse_args()
    run_until_terminated(
        Pipeline.bind(str(arguments.folder), arguments.batch), port=arguments.port, ray_folder=arguments.ray_folder
    )


if __name__ == "__main__":
    main()
