"""A streamed completion that a thread reads while the test does something else."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.integration.conftest import LocalFleet


class BackgroundStream:
    """Returns once its first event has come."""

    def __init__(self, fleet: LocalFleet, **body: Any) -> None:
        self._fleet = fleet
        self._body = {**body, "stream": True}
        self._pieces: list[str] = []
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert self._begun.wait(60)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def text(self) -> str:
        """All of it, once it has come to a proper end."""
        self._thread.join()
        *pieces, done = self._pieces
        assert done == "[DONE]"
        choices = [json.loads(piece)["choices"][0] for piece in pieces]
        assert choices[-1]["finish_reason"] == "length"
        return "".join(choice["text"] for choice in choices)

    def _read(self) -> None:
        with self._fleet.http() as client, client.stream("POST", "/v1/completions", json=self._body) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    self._pieces.append(line.removeprefix("data: "))
                    self._begun.set()
