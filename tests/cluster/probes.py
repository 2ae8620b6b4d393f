"""Owns the watching from outside: requests one after the other, and long streams, and what became of each."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.cluster.fleet import ClusterFleet
from tests.cluster.pods import Pod

IMAGES, COMPLETIONS = "/v1/images/generations", "/v1/completions"
PACE_S = 0.25


@dataclass(slots=True)
class Probes:
    """Short requests for a model, one at a time, until told to stop."""

    fleet: ClusterFleet
    model: str
    statuses: Counter[int] = field(default_factory=Counter[int])
    failures: list[str] = field(default_factory=list[str])
    longest_s: float = 0.0
    via: Pod | None = None
    every_s: float = 0.2
    timeout_s: float = 60.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Probes:
        self._thread = threading.Thread(target=self._ask, name=f"probes of {self.model}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    @property
    def sent(self) -> int:
        return self.statuses.total()

    def _ask(self) -> None:
        body = {"model": self.model, "prompt": "a", "max_tokens": 4}
        with self.fleet.client(self.timeout_s, via=self.via) as client:
            while not self._over.wait(self.every_s):
                began = time.monotonic()
                try:
                    answer = client.post(COMPLETIONS, json=body)
                    self.statuses[answer.status_code] += 1
                    if not answer.is_success:
                        self.failures.append(f"{answer.status_code} {answer.text[:200]}")
                except httpx.HTTPError as error:
                    self.statuses[0] += 1
                    self.failures.append(repr(error))
                self.longest_s = max(self.longest_s, time.monotonic() - began)


@dataclass(slots=True)
class PacedStream:
    """One streamed image that takes `seconds`. `end` is "completed", "error" (an event of the stream) or "cut"."""

    fleet: ClusterFleet
    model: str
    seconds: float
    via: Pod | None = None
    timeout_s: float = 60.0  # of silence
    end: str = "running"
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pings: int = 0
    took_s: float = 0.0
    why: str = ""
    after_error: str = ""  # how the response ended once it had told of an error
    _thread: threading.Thread | None = None

    @property
    def begun(self) -> bool:
        """The first preview has come, so that a replica is at work; the stream has not ended."""
        assert self.end == "running", f"{self.end}: {self.why}"
        return bool(self.events)

    def begin(self) -> PacedStream:
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()
        return self

    def join(self, timeout_s: float = 300) -> PacedStream:
        assert self._thread is not None
        self._thread.join(timeout_s)
        return self

    def _read(self) -> None:
        body = {"model": self.model, "prompt": "", "stream": True, "partial_images": 3}
        body["steps"] = round(self.seconds / PACE_S)
        began = time.monotonic()
        try:
            with (
                self.fleet.client(self.timeout_s, via=self.via) as client,
                client.stream("POST", IMAGES, json=body) as response,
            ):
                if response.status_code != 200:
                    self.end, self.why = "refused", f"{response.status_code} {response.read()[:300]!r}"
                    return
                for line in response.iter_lines():
                    self._take(line)
            self.after_error = "clean end" if self.end == "error" else ""
            self.end = "cut" if self.end == "running" else self.end
        except httpx.HTTPError as error:
            self.why = self.why or repr(error)
            self.after_error = "cut" if self.end == "error" else ""
            self.end = "cut" if self.end == "running" else self.end
        finally:
            self.took_s = time.monotonic() - began

    def _take(self, line: str) -> None:
        self.pings += line.startswith(":")
        if not line.startswith("data: ") or line == "data: [DONE]":
            return
        event = json.loads(line.removeprefix("data: "))
        self.events.append(event)
        if "error" in event:
            self.end, self.why = "error", json.dumps(event["error"])
        elif event.get("type") == "image_generation.completed":
            self.end = "completed"
