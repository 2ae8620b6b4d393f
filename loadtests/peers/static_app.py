"""The static batches that `@serve.batch` gives: `python -m loadtests.peers.static_app FOLDER PORT RAY_FOLDER`.

A batch of up to 16 prompts is padded on the left and goes through `model.generate` as one; everyone waits for its
longest answer. Ray Serve and Hugging Face as their documentation shows them.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import torch
from ray import serve
from starlette.requests import Request
from transformers import AutoModelForCausalLM, AutoTokenizer

from loadtests.peers.ray_app import run_until_terminated

BATCH = 16
GATHER_S = 0.1  # how long an incomplete batch waits for more


@serve.deployment(max_ongoing_requests=4 * BATCH, ray_actor_options={"num_cpus": 0.1})
class StaticBatches:
    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._model.generation_config.eos_token_id = None  # its spelling of ignore_eos

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=GATHER_S)
    async def generate(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._generate, jobs)

    def _generate(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        batch = self._tokenizer([job["prompt"] for job in jobs], return_tensors="pt", padding=True)
        longest = max(job["max_tokens"] for job in jobs)
        with torch.inference_mode():
            output = self._model.generate(
                **batch, max_new_tokens=longest, do_sample=False, pad_token_id=self._tokenizer.pad_token_id
            )
        new = output[:, batch["input_ids"].shape[1] :]
        rows = [row[: job["max_tokens"]] for row, job in zip(new, jobs, strict=True)]
        return [{"text": self._tokenizer.decode(row), "tokens": len(row)} for row in rows]

    async def __call__(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            return {"status": "ok"}
        return await self.generate(await request.json())


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
