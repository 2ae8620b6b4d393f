"""Runs `transformers serve --continuous-batching`: Hugging Face's own server, with its paged cache.

The sizes below suit this load: on the CPU its own defaults take 5 GB for a small model and are slower.
"""

from __future__ import annotations

import json
from pathlib import Path

from loadtests.client import Answer
from loadtests.peers.answers import streamed
from loadtests.peers.text_server import TextServer, own_binary
from loadtests.workload import Job

CACHE_BLOCKS = 256  # of 32 tokens: all that 16 rows of the longest job need, and more
BATCH_TOKENS = 1024
NO_END = json.dumps({"eos_token_id": -1, "do_sample": False})  # its spelling of ignore_eos


class TransformersServe(TextServer):
    name = "transformers serve"

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(work)
        self._model = str(folder)
        sizes = {"block-size": 32, "num-blocks": CACHE_BLOCKS, "max-batch-tokens": BATCH_TOKENS}
        command = [own_binary("transformers"), "serve", self._model, "--continuous-batching"]
        command += [item for key, value in sizes.items() for item in (f"--cb-{key}", str(value))]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--device", "cpu", "--dtype", "float32"]
        self._run(command, "/health")

    async def send(self, job: Job) -> Answer:
        body = {
            "model": self._model,
            "prompt": job.prompt,
            "max_tokens": job.output_tokens,
            "stream": True,
            "generation_config": NO_END,
        }
        return await streamed(f"{self._url}/v1/completions", body, job, says_done=False)
