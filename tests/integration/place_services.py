"""Starts a node of Ray with one device of type L4, as Ray believes, and prints where services are placed, as JSON.

A process of its own: Ray is global, and its node ends with whoever started it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import ray
from ray import serve

from services.app import ACCELERATOR_LABEL, serve_config
from shared.config.models import FleetConfig
from shared.config.settings import Settings

PATIENCE_S = 120
PLACED_WITHIN_S = 10  # a replica that has room starts to be placed within a tenth of that


class Where:
    """Says which devices its replica was given."""

    async def __call__(self) -> list[str]:
        return ray.get_runtime_context().get_accelerator_ids()["GPU"]


def options(name: str, resources: dict[str, Any]) -> dict[str, Any]:
    """What a service with such resources asks Ray for."""
    entry = {"name": name, "family": "transformer", "models": [{"id": name, "source": "file://x", "device": "cuda"}]}
    entry["resources"] = {"memory": "64MiB", **resources}
    config = serve_config(FleetConfig.model_validate({"services": [entry]}), Settings())
    return config["applications"][0]["deployments"][0]["ray_actor_options"]


def main(fitting: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The devices of each service that fits, the states of the others, and what of the device is left."""
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        labels={ACCELERATOR_LABEL: "L4"},
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    serve.start(proxy_location="Disabled")
    handles = {name: _start(name, resources) for name, resources in fitting.items()}
    found = {name: handle.remote().result(timeout_s=PATIENCE_S) for name, handle in handles.items()}
    for name, resources in others.items():
        _start(name, resources)
    time.sleep(PLACED_WITHIN_S)
    applications = serve.status().applications
    states = {name: applications[name].status.value for name in others}
    left = ray.available_resources().get("GPU", 0.0)
    serve.shutdown()
    ray.shutdown()
    return {"devices": found, "states": states, "left": left}


def _start(name: str, resources: dict[str, Any]) -> Any:
    app = serve.deployment(Where, name=name, ray_actor_options=options(name, resources)).bind()
    return serve._run(app, name=name, route_prefix=None, _blocking=False)


if __name__ == "__main__":
    print(json.dumps(main(*json.loads(sys.argv[1]))))  # noqa: T201
