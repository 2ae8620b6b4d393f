"""Owns a local Ray cluster of one node and the applications on it. Imports Ray only when it starts one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.fleet.state import FleetError

OBJECT_STORE = 200 * 2**20  # bytes; calls travel by gRPC, so little is stored
MESSAGE_LINES = 40


class RayHead:
    """The head of a cluster that lives as long as this process. One a process: Ray itself is global."""

    def __init__(self, folder: Path) -> None:
        # Here and below: Ray reads its environment when it is imported, and `run` sets that first.
        import ray  # noqa: PLC0415

        ray.init(
            address="local",
            namespace="serve",
            num_cpus=os.cpu_count(),
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=True,
            logging_level=logging.WARNING,
            _temp_dir=str(folder),
        )
        self._client: Any = None

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Apply a configuration as `serve deploy` does. Returns before it has taken effect."""
        from ray.serve._private import api  # noqa: PLC0415
        from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

        schema = ServeDeploySchema.model_validate(config)
        if self._client is None:
            self._client = api.serve_start(
                http_options=schema.http_options.model_dump(), proxy_location=schema.proxy_location
            )
        self._client.deploy_apps(schema)

    def statuses(self) -> dict[str, str]:
        """Each application's status. FleetError if one failed, with what its replicas raised."""
        found: dict[str, str] = {}
        for app in self._client.list_serve_statuses():
            status = app.app_status
            found[app.name] = status.status.value
            if status.status.value in ("DEPLOY_FAILED", "UNHEALTHY"):
                tail = status.message.strip().splitlines()[-MESSAGE_LINES:]
                raise FleetError(f"application '{app.name}' failed: " + "\n".join(tail))
        return found

    def stop(self) -> None:
        """End the applications, then Ray. What is left running after this did not end by itself."""
        import ray  # noqa: PLC0415
        from ray import serve  # noqa: PLC0415

        if self._client is not None:
            serve.shutdown()
        ray.shutdown(wait_for_processes=True)
