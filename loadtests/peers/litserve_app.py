"""Static batches behind LitServe, streamed: `PYTHON -m loadtests.peers.litserve_app FOLDER PORT BATCH`.

LitServe batches requests (https://lightning.ai/docs/litserve/features/batching) and streams a batch's answers step by
step (https://lightning.ai/docs/litserve/features/streaming). Its documentation leaves an engine in which requests join
a running batch to its user: for text it points to vLLM, which is a peer of its own here. A batch and a stream are the
best that it brings along. `fast_queue` is ZeroMQ between its processes. Each answer ends with its own [DONE]; the
connection stays open until the batch's longest has ended.

Runs in LitServe's environment.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence

import litserve

from loadtests.peers.batches import Prompt, StaticModel
from loadtests.peers.litserve_signals import end_as_by_ctrl_c

GATHER_S = 0.1  # how long an incomplete batch waits for more


class StreamedBatches(litserve.LitAPI):
    def __init__(self, folder: str, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=GATHER_S, stream=True)
        self._folder = folder

    def setup(self, device: str) -> None:
        self._model = StaticModel(self._folder)

    def decode_request(self, request) -> Prompt:  # without a type, as LitServe takes one for what FastAPI is to check
        return Prompt(request["prompt"], request["max_tokens"])

    def predict(self, x: Sequence[Prompt]) -> Iterator[list[str]]:
        yield from self._model.stream(x)

    def encode_response(self, output: Iterator[list[str]]) -> Iterator[list[str]]:
        yield from output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of the model")
    parser.add_argument("port", type=int)
    parser.add_argument("batch", type=int, help="the most requests that are answered together; 2 or more")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, end_as_by_ctrl_c)
    api = StreamedBatches(arguments.folder, arguments.batch)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=False, fast_queue=True)
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
