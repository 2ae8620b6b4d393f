"""Owns `python -m services.fleet.edge FOLDER`: a fleet's changes to HAProxy where others start Ray, as in a pod.

An image names a script as RAY_SERVE_HAPROXY_BINARY_PATH that calls this once, then `FOLDER/haproxy` in HAProxy's place.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from services.fleet.haproxy import Edge, haproxy_binary, write_haproxy_script
from shared.config.settings import Settings

# Ray's own, where nothing is said.
METRICS_PORT = 9101
STATS_PORT = 8404


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.fleet.edge", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the program `haproxy` goes, and what it reads")
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = Settings()
    edge = Edge(
        metrics_port=int(os.environ.get("RAY_SERVE_HAPROXY_METRICS_PORT", METRICS_PORT)),
        stats_port=int(os.environ.get("RAY_SERVE_HAPROXY_STATS_PORT", STATS_PORT)),
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        # Where the gateway listens, so that a pod's are found from outside of it.
        metrics_host=f"[{settings.host}]" if ":" in settings.host else settings.host,
    )
    write_haproxy_script(folder, edge, haproxy_binary())


if __name__ == "__main__":
    main()
