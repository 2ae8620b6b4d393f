"""Owns what the gateway sends to a replica: one call, already validated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from pydantic import BaseModel


class Priority(IntEnum):
    """Smaller goes first."""

    INTERACTIVE = 0
    DEFAULT = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class Call:
    """A validated request on its way to a replica.

    `deadline_s` is the time left, in seconds, at the moment of sending: clocks of two machines are never compared.
    `flush_s` is how long events gather before they are sent on; None sends them all at the end. Calls of one service
    with the same `affinity` go to the same replica, if it is not much busier than the others. `traceparent` is the span
    that sends it, as W3C writes one; None where nothing is traced.
    """

    request_id: str
    model: str
    task: str
    body: BaseModel
    tenant: str = "default"
    weight: float = 1.0
    priority: Priority = Priority.DEFAULT
    deadline_s: float | None = None
    flush_s: float | None = None
    affinity: str | None = None
    traceparent: str | None = None
