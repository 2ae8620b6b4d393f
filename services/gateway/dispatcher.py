"""Owns the gateway's one seam towards what runs models: replicas, remote servers. Never sees HTTP, never sees Ray."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from shared.calls import Call
from shared.events import RowEvent
from shared.reports import ReplicaReport


class ReplicaLost(Exception):
    """The replica died or cannot be reached: whatever it ran for this call is gone. The cause is for the log."""


class NotTaken(ReplicaLost):
    """No replica has said a word of the call for long: none may have got it, and it can be sent again."""


class Dispatcher(Protocol):
    """Reaches the replicas of a service. Every method raises `ReplicaLost` or a `shared.errors.ServiceError`."""

    def stream(self, service: str, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """The events of one call, as `shared.events` orders them.

        Closing the generator, or cancelling the task that waits on it, frees the request on the replica. A service
        without replicas holds the call until one starts.
        """
        ...

    async def ping(self, service: str) -> None:
        """Return once a replica of the service has answered through the data path that calls take."""
        ...

    async def reports(self, service: str) -> Sequence[ReplicaReport]:
        """Ask every replica for a fresh report; a service without replicas gives none."""
        ...

    async def close(self) -> None:
        """Let go of every connection. Nothing is asked afterwards."""
        ...
