"""Owns when one user asks: on time in an open loop, or after the answer in a closed one. Never sees Locust."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Protocol

from loadtests.generator.exchange import Client
from loadtests.traffic.trace import Arrival

IDLE_S = 3600.0  # until the user is stopped
THINKING_S = (0.1, 1.0)


class Sender(Protocol):
    """Who sends. `now` is in seconds since the test began; after `is_over` nothing is to be sent."""

    @property
    def is_over(self) -> bool: ...

    def now(self) -> float: ...

    def launch(self, client: Client, rng: Random, arrival: Arrival, *, asks_for: str) -> None:
        """Send without waiting for the answer."""
        ...

    def ask(self, client: Client, rng: Random, *, asks_for: str) -> None:
        """Send, and read the answer."""
        ...


class Loop(Protocol):
    """Call `ask`, wait for `wait_s`, and so on."""

    def ask(self) -> None: ...
    def wait_s(self) -> float: ...


class OpenLoop:
    """Sends what is due, and never waits for an answer."""

    def __init__(
        self, sender: Sender, client: Client, rng: Random, arrivals: Iterator[Arrival], *, asks_for: str = ""
    ) -> None:
        self._sender, self._client, self._rng, self._asks_for = sender, client, rng, asks_for
        self._arrivals = arrivals
        self._next = next(arrivals, None)

    def ask(self) -> None:
        while self._next is not None and not self._sender.is_over and self._next.at <= self._sender.now():
            self._sender.launch(self._client, self._rng, self._next, asks_for=self._asks_for)
            self._next = next(self._arrivals, None)

    def wait_s(self) -> float:
        if self._next is None or self._sender.is_over:
            return IDLE_S
        return max(0.0, self._next.at - self._sender.now())


class ClosedLoop:
    """Asks, reads the answer to its end, thinks, and asks again."""

    def __init__(self, sender: Sender, client: Client, rng: Random, *, asks_for: str = "") -> None:
        self._sender, self._client, self._rng, self._asks_for = sender, client, rng, asks_for

    def ask(self) -> None:
        if not self._sender.is_over:
            self._sender.ask(self._client, self._rng, asks_for=self._asks_for)

    def wait_s(self) -> float:
        return IDLE_S if self._sender.is_over else self._rng.uniform(*THINKING_S)


class NoLoop:
    """Of a user beside a trace, which its process replays."""

    def ask(self) -> None:
        return

    def wait_s(self) -> float:
        return IDLE_S
