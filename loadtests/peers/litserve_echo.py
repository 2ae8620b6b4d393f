"""Answers at once, behind LitServe: `PYTHON -m loadtests.peers.litserve_echo PORT`.

Two APIs of one server (https://lightning.ai/docs/litserve/features/multiple-endpoints): one whole, one streamed, each
with a worker process, as LitServe has it; ZeroMQ between its processes, which it recommends above a hundred requests a
second. Runs in LitServe's environment.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import litserve

from loadtests.peers.litserve_signals import end_as_by_ctrl_c


class Answer(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """There is no model."""

    def predict(self, x: dict[str, str]) -> dict[str, list[float]]:
        return {"embedding": [0.25, 0.5]}


class Stream(Answer):
    """An event for each letter."""

    def predict(self, x: dict[str, str]) -> Iterator[str]:
        for letter in x["input"]:
            yield f"data: {letter}\n\n"

    def encode_response(self, output: Iterator[str]) -> Iterator[str]:
        yield from output


def main() -> None:
    signal.signal(signal.SIGTERM, end_as_by_ctrl_c)
    apis = [Answer(api_path="/answer"), Stream(api_path="/stream", stream=True)]
    server = litserve.LitServer(apis, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=sys.argv[1], num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
