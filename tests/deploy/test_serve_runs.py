"""The serveConfigV2 that the chart renders for GPUs, deployed for real: 100 s on a busy machine of 2 cores.

A second Ray node pretends to have two devices of the group's type, and tiny checkpoints stand for the models; all else
is as rendered: shares of a device by declared memory, device types, replicas from nothing, routers, policies. Only the
head has a proxy, Ray's own in Python: two nodes of one machine would want the same ports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import httpx
import psutil
import pytest
import yaml

from services.fleet.environment import CODE, choose_ports, ray_environment, settings_environment
from services.fleet.processes import descendants, end_all
from services.sources import write_manifest
from shared.config.accelerators import device_share
from shared.config.settings import Settings
from tests.checkpoints import make_checkpoint
from tests.deploy.chart import GPU, Chart
from tests.image_checkpoints import image_checkpoint
from tests.shape_checkpoints import make_embedder

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]
GPUS, PATIENCE_S, SETTLE_S = 2, 240, 30


@dataclass(frozen=True)
class Node:
    process: subprocess.Popen[str]
    url: str
    log: Path

    def told(self) -> dict[str, Any]:
        line = cast(TextIO, self.process.stdout).readline()
        assert line, f"it ended: {self.log.read_text()[-4000:]}"
        return json.loads(line)

    def free_gpus(self) -> float:
        pipe = cast(TextIO, self.process.stdin)
        pipe.write("\n")
        pipe.flush()
        return self.told()["free"]

    def settles_at(self, free: float) -> bool:
        """Whether so many devices come to be free: Ray's view of them lags behind."""
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            if abs(self.free_gpus() - free) < 0.001:
                return True
            time.sleep(0.5)
        return False

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_S) as client:
            answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


def tiny_models(folder: Path) -> dict[str, dict[str, Any]]:
    """What stands for each model of the scenario, by its id."""
    llama, embedder = folder / "llama", make_embedder(folder / "embedder")
    make_checkpoint("llama", llama)
    for each in (llama, embedder):
        write_manifest(each)
    painter = image_checkpoint("emoji", folder / "emoji")
    return {
        "assistant": {"id": "assistant", "source": f"file://{llama}"},
        "painter": {"id": "painter", "source": painter},
        "embedder": {"id": "embedder", "kind": "embedding", "source": f"file://{embedder}"},
    }


def with_models(config: dict[str, Any], models: dict[str, dict[str, Any]], port: int) -> dict[str, Any]:
    """The configuration with other weights, at a port of this machine; nothing else is changed."""
    found = json.loads(json.dumps(config))
    found |= {"http_options": {"host": "127.0.0.1", "port": port}, "proxy_location": "HeadOnly"}
    for application in found["applications"]:
        told = application["deployments"][0]["user_config"]
        for service in told.get("services", [told]):
            service["models"] = [models[model["id"]] for model in service["models"]]
    return found


@pytest.fixture(scope="module")
def node(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("n")  # short: sockets lie below it
    settings = Settings(home=folder / "home", port=0, hold_s=PATIENCE_S, haproxy=False)
    ports = choose_ports(settings)
    config = with_models(chart.serve_config(GPU), tiny_models(folder), ports.gateway)
    (folder / "serve.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | settings_environment(settings) | ray_environment(settings, ports, folder)
    command = [
        sys.executable,
        "-m",
        "tests.deploy.serve_node",
        str(folder / "serve.yaml"),
        str(folder / "r"),
        str(GPUS),
        "L4",
    ]
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=CODE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    started: list[psutil.Process] = []
    try:
        yield Node(process, f"http://127.0.0.1:{ports.gateway}", log)
    finally:
        started = descendants(psutil.Process(process.pid)) if process.poll() is None else []
        cast(TextIO, process.stdin).close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        cast(TextIO, process.stdout).close()
        end_all(started)


def test_gpu_services_come_from_nothing_share_devices_and_answer(node: Node) -> None:
    ready = node.told()
    assert ready == {"ready": dict.fromkeys(("chat", "images", "embeddings", "gateway"), "RUNNING")}
    assert node.settles_at(GPUS), "no service for GPUs has a replica at rest"

    listed = node.post("/v1/embeddings", {"model": "embedder", "input": "a spring"})
    assert listed["data"][0]["embedding"]
    assert node.settles_at(GPUS), "embeddings run on CPUs"

    said = node.post(
        "/v1/chat/completions", {"model": "assistant", "messages": [{"role": "user", "content": "a"}], "max_tokens": 4}
    )
    assert said["choices"][0]["finish_reason"]
    chats = device_share(18 * 2**30, "L4")
    assert node.settles_at(GPUS - chats), "18 GiB of an L4"

    drawn = node.post("/v1/images/generations", {"model": "painter", "prompt": "red heart", "n": 1})
    assert drawn["data"][0]["b64_json"]
    assert node.settles_at(GPUS - chats - device_share(7 * 2**30, "L4")), "7 GiB of the other one"
