"""Runs a Ray Serve application by itself, for peers that are one: on loopback, until SIGTERM."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import ray
from ray import serve
from ray.serve import Application

OBJECT_STORE = 100 * 2**20


def run_until_terminated(application: Application, *, port: int, ray_folder: str) -> None:
    """Serve on 127.0.0.1:`port`. `ray_folder` takes Ray's files: a short path, for it holds Unix sockets."""
    stopped = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE,
        _temp_dir=ray_folder,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(application)
    stopped.wait()
    serve.shutdown()
    ray.shutdown()
