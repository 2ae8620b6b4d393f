"""Answers at once, behind BentoML: `bentoml serve loadtests.peers.bentoml_echo:Echo`.

Async endpoints (https://docs.bentoml.com/en/latest/build-with-bentoml/services.html), so that neither waits for a
thread. Runs in BentoML's environment.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import bentoml


@bentoml.service(workers=1, resources={"cpu": "1"}, logging={"access": {"enabled": False}})
class Echo:
    @bentoml.api
    async def answer(self, input: str) -> dict[str, list[float]]:
        return {"embedding": [0.25, 0.5]}

    @bentoml.api
    async def stream(self, input: str) -> AsyncGenerator[str, None]:
        """An event for each letter."""
        for letter in input:
            yield f"data: {letter}\n\n"
