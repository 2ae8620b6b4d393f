"""Static batches behind BentoML: `bentoml serve loadtests.peers.bentoml_app:StaticBatches`.

BentoML's adaptive batching (https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html) gathers requests of
one endpoint, and answers each when the batch has ended. It also streams (https://docs.bentoml.com/en/latest/build-with-bentoml/streaming.html),
but a streaming endpoint takes its requests one by one, and beside one another they only share the thread: with 16
clients batches make more tokens a second. For text with an engine its documentation puts vLLM behind BentoML, which is
a peer of its own here.

Runs in BentoML's environment. PEER_MODEL is the model's folder, PEER_BATCH the most requests in a batch.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import bentoml
from pydantic import BaseModel

from loadtests.peers.batches import Prompt, StaticModel

LONGEST_S = 600


class Job(BaseModel):
    prompt: str
    max_tokens: int


# No line for each request: no other server that is compared writes one.
@bentoml.service(
    workers=1, resources={"cpu": "1"}, traffic={"timeout": LONGEST_S}, logging={"access": {"enabled": False}}
)
class StaticBatches:
    def __init__(self) -> None:
        self._model = StaticModel(os.environ["PEER_MODEL"])

    # Its own default refuses whom it expects to wait for more than a minute: a batch of a slow model may take longer.
    @bentoml.api(batchable=True, max_batch_size=int(os.environ["PEER_BATCH"]), max_latency_ms=LONGEST_S * 1000)
    def generate(self, jobs: list[Job]) -> list[dict[str, Any]]:
        texts = self._model.generate([Prompt(job.prompt, job.max_tokens) for job in jobs])
        return [asdict(text) for text in texts]
