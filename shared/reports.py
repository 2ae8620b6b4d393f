"""Owns what a replica tells the gateways about itself: loads, states and counters. Never a prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shared.prediction import UNSEEN, Load, Pace, Waiting

ModelState = Literal["cold", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` observations were over `bounds[i - 1]` and at most `bounds[i]`; the last, over every bound.

    In seconds, or in rows where that is said.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


NOTHING = Histogram((), (0,), 0.0)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model on one replica. Counters only grow for as long as the replica lives."""

    model: str
    state: ModelState
    revision: str
    limits: Mapping[str, float]
    memory: int  # bytes that the loaded model may take
    waiting_rows: int
    waiting_cost: float
    running_rows: int
    steps: int
    row_steps: int  # rows stepped, summed over steps: row_steps / steps is the mean batch occupancy
    units: float
    finished: Mapping[str, int]  # rows by finish reason
    queue_seconds: Histogram
    first_chunk_seconds: Histogram
    step_seconds: Histogram
    running_cost: float = 0.0
    waiting: tuple[Waiting, ...] = ()  # the waiting cost by priority and tenant, with what is on its way to the queue
    pace: Pace = UNSEEN
    free_rows: int = 0  # places in the batch; 0 while rows wait that found none, or did not fit
    places: int = 0  # rows that the batch takes; 0 of a model that was never loaded
    batch_rows: Histogram = NOTHING  # rows in a step
    load_s: float | None = None  # how long the last load took, in seconds
    counts: Mapping[str, float] = field(default_factory=dict[str, float])  # counters of its family's own, by name

    @property
    def load(self) -> Load:
        """What a request for this model would meet here."""
        return Load(self.waiting, self.running_rows, self.running_cost, self.free_rows)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device's memory, in bytes: what this replica's tensors take of it, and the most that they may."""

    allocated: int
    limit: int


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """`healthy`: whether its engine works; None of a server that is not ours."""

    service: str
    replica: str
    models: tuple[ModelReport, ...]
    max_wait_s: float = math.inf  # a request that is predicted to wait longer is refused
    healthy: bool | None = None
    devices: tuple[DeviceMemory, ...] = ()
