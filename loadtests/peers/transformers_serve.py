"""Runs `transformers serve --continuous-batching`: Hugging Face's own server, with its paged cache.

The sizes below suit this load: on the CPU its own defaults take 5 GB for a small model and are slower.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from loadtests.client import Answer, post
from loadtests.peers.server import ServerProcess, cpu_by_role, descendants, free_port
from loadtests.sse import StreamCut, TextStream
from loadtests.workload import Job

CACHE_BLOCKS = 256  # of 32 tokens: all that 16 rows of the longest job need, and more
BATCH_TOKENS = 1024
NO_END = json.dumps({"eos_token_id": -1, "do_sample": False})  # its spelling of ignore_eos


class TransformersServe:
    name = "transformers serve"

    def __init__(self, folder: Path, work: Path) -> None:
        port = free_port()
        self._model = str(folder)
        self._url = f"http://127.0.0.1:{port}"
        sizes = {"block-size": 32, "num-blocks": CACHE_BLOCKS, "max-batch-tokens": BATCH_TOKENS}
        command = [str(Path(sys.executable).with_name("transformers")), "serve", self._model, "--continuous-batching"]
        command += [item for key, value in sizes.items() for item in (f"--cb-{key}", str(value))]
        command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
        self._process = ServerProcess(command, f"{self._url}/health", work / "transformers-serve.log")

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.stop()

    def cpu_seconds(self) -> Mapping[str, float]:
        return cpu_by_role(descendants(self._process.pid), lambda _: "server")

    async def send(self, job: Job) -> Answer:
        body = {
            "model": self._model,
            "prompt": job.prompt,
            "max_tokens": job.output_tokens,
            "stream": True,
            "generation_config": NO_END,
        }
        stream = TextStream(started=time.perf_counter())
        async for data in post(f"{self._url}/v1/completions", body):
            stream.feed(data, time.perf_counter())
        if stream.finish_reason is None or stream.first_text is None:  # this server never sends [DONE]
            raise StreamCut(f"the stream ended after {stream.tokens} tokens")
        if stream.tokens != job.output_tokens:
            raise StreamCut(f"asked for {job.output_tokens} tokens, got {stream.tokens}")
        return Answer(stream.started, stream.first_text, time.perf_counter(), stream.tokens)
