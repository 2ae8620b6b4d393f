"""Owns what a gateway knows of its own use of one remote model. Never sees a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.config.upstream import UpstreamModel
from shared.events import Finished, RowEvent
from shared.reports import Histogram, ModelReport, ModelState

REVISION = "remote"  # what runs there is not ours to say
_UNSEEN = Histogram((), (0,), 0.0)  # a remote server's queue and steps


@dataclass(slots=True)
class Tally:
    """Counts rows; the server's queue, steps and memory are its own affair."""

    running_rows: int = 0
    units: float = 0.0
    finished: Counter[str] = field(default_factory=Counter[str])

    def took(self, batch: Sequence[RowEvent]) -> None:
        for _, event in batch:
            if isinstance(event, Finished):
                self.units += event.units
                self.finished[event.reason] += 1

    def report(self, model: UpstreamModel, state: ModelState) -> ModelReport:
        return ModelReport(
            model=model.id,
            state=state,
            revision=REVISION,
            limits={} if model.context_length is None else {"context_length": float(model.context_length)},
            memory=0,
            waiting_rows=0,
            waiting_cost=0.0,
            running_rows=self.running_rows,
            steps=0,
            row_steps=0,
            units=self.units,
            finished=dict(self.finished),
            queue_seconds=_UNSEEN,
            first_chunk_seconds=_UNSEEN,
            step_seconds=_UNSEEN,
        )
