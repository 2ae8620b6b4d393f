"""Owns a Ray head, and a node with devices that it only pretends to have: `... serve_node CONFIG FOLDER GPUS LABEL`.

It deploys Ray Serve's configuration in CONFIG, writes {"ready": ...} when every application runs, answers each line of
its standard input with the devices that are free, and ends with it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

OBJECT_STORE, MEMORY, CPUS = 200 * 2**20, 64 * 2**30, 8
NAMESPACE = "serve"
POLL_S = 0.5


def say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    config, folder, gpus, label = sys.argv[1:]
    import ray
    from ray import serve
    from ray._common.utils import get_default_ray_temp_dir
    from ray.cluster_utils import Cluster
    from ray.serve._private import api
    from ray.serve.schema import ServeDeploySchema

    # Ray notes there where its newest cluster is, and does not make it on a machine without Ray before.
    Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
    rest = {"object_store_memory": OBJECT_STORE, "memory": MEMORY, "num_cpus": CPUS}
    cluster = Cluster(initialize_head=True, head_node_args={**rest, "temp_dir": folder, "include_dashboard": False})
    cluster.add_node(**rest, num_gpus=int(gpus), labels={"ray.io/accelerator-type": label})
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
    try:
        schema = ServeDeploySchema.model_validate(yaml.safe_load(Path(config).read_text()))
        client = api.serve_start(http_options=schema.http_options.model_dump(), proxy_location=schema.proxy_location)
        client.deploy_apps(schema)
        statuses: dict[str, str] = {}
        while not statuses or set(statuses.values()) != {"RUNNING"}:
            time.sleep(POLL_S)
            found = client.list_serve_statuses()
            statuses = {app.name: app.app_status.status.value for app in found}
            if failed := [app.app_status.message for app in found if app.app_status.status.value == "DEPLOY_FAILED"]:
                say(failed=failed)
                return
        say(ready=statuses)
        for _ in sys.stdin:
            say(free=ray.available_resources().get("GPU", 0.0))
    finally:
        serve.shutdown()
        ray.shutdown(wait_for_processes=True)
        cluster.shutdown()


if __name__ == "__main__":
    main()
