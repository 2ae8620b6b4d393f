"""Owns what one replica says of its load to whoever decides on the number of replicas.

Of a model that has had a queue it is known how fast that drains, which is the most that it can do. One without a pace
has never kept a row waiting through a step, so the places that its rows take say how busy it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

MEMORY_S = 15.0  # seconds after which what a replica did counts for 1/e: some steps of the slowest models
LEAST_S = 5.0  # nothing is said of a rate after less


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """One model of a replica; its work is counted in the model's own units.

    `wait_s` and `units_per_second` are None until it has had a queue.
    """

    model: str
    rows: int  # that wait or run
    free_rows: int  # places in the batch
    done: float  # since the replica started
    queued: float
    wait_s: float | None
    units_per_second: float | None


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """One replica. `busy` is what it did of late, as a share of what it can do; `arriving` is what it was given.

    `arriving` is over `busy` while the queue grows. `is_paced` is 1 if the pace of one of its models is known, else 0.
    """

    rows: float = 0.0
    wait_s: float = 0.0
    busy: float = 0.0
    arriving: float = 0.0
    is_paced: float = 0.0

    def as_metrics(self) -> dict[str, float]:
        return {PREFIX + name: value for name, value in asdict(self).items()}

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, float]) -> ReplicaLoad | None:
        """None where one of the numbers is missing: the replica has not said yet how it is."""
        names = [field.name for field in fields(cls)]
        if any(PREFIX + name not in metrics for name in names):
            return None
        return cls(**{name: metrics[PREFIX + name] for name in names})


PREFIX = "castalia_"


class LoadMeter:
    """Makes a replica's load of its models', with a memory for what was done since the last reading."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_at: float | None = None
        self._last: Mapping[str, ModelLoad] = {}
        self._done_s = self._grown_s = self._passed_s = 0.0  # fading sums

    def read(self, models: Iterable[ModelLoad]) -> ReplicaLoad:
        """The load now.

        A pace holds the turns that other models took meanwhile, so the longest wait is that of the replica. What its
        models did is added up: too much where they took turns, which keeps a replica too long rather than not enough.
        """
        models = tuple(models)
        self._remember(models)
        passed_s = max(self._passed_s, LEAST_S)
        busy = min(1.0, self._done_s / passed_s)
        return ReplicaLoad(
            rows=float(sum(model.rows for model in models)),
            wait_s=max((model.wait_s for model in models if model.wait_s is not None), default=0.0),
            busy=busy,
            arriving=max(0.0, busy + self._grown_s / passed_s),
            is_paced=float(any(model.units_per_second for model in models)),
        )

    def _remember(self, models: Sequence[ModelLoad]) -> None:
        now = self._clock()
        passed_s = 0.0 if self._read_at is None else now - self._read_at
        keep = math.exp(-passed_s / MEMORY_S)
        done_s = self._added_s(models, lambda model: model.done) + passed_s * sum(_taken(model) for model in models)
        self._done_s = keep * self._done_s + done_s
        self._grown_s = keep * self._grown_s + self._added_s(models, lambda model: model.queued)
        self._passed_s = keep * self._passed_s + passed_s
        self._read_at = now
        self._last = {model.model: model for model in models}

    def _added_s(self, models: Sequence[ModelLoad], read: Callable[[ModelLoad], float]) -> float:
        """What a number of units has grown by since the last reading, in seconds of work at the pace of now."""
        return sum(
            (read(model) - (read(self._last[model.model]) if model.model in self._last else 0.0)) / rate
            for model in models
            if (rate := model.units_per_second)
        )


def _taken(model: ModelLoad) -> float:
    """The share of its places that are taken, of a model without a pace."""
    places = model.rows + model.free_rows
    return model.rows / places if places and model.units_per_second is None else 0.0
