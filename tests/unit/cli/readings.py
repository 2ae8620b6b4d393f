"""What a gateway's `/metrics` says, by the gateway's own code: of requests that it counted, and of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.gateway.metrics import GatewayMetrics
from services.gateway.record import Record
from shared.config.models import FleetConfig
from shared.prediction import Pace, Share, Waiting
from shared.reports import Histogram, ModelReport, ReplicaReport

FLEET = FleetConfig.model_validate(
    {
        "services": [
            {
                "name": "chat",
                "family": "transformer",
                "replicas": {"min": 1, "max": 4},
                "models": [{"id": "tiny", "source": "builtin://tiny"}],
            }
        ]
    }
)
NOTHING = Histogram((1.0,), (0, 0), 0.0)
REPORT = ModelReport(
    "tiny", "ready", "rev", {}, 1, 3, 100.0, 2, 10, 15, 500.0, {"stop": 4}, NOTHING, NOTHING, NOTHING, 10.0,
    (Waiting(Share(0, "t", 1.0), 100.0),), Pace(50.0, 0.1, 1.0), places=4, batch_rows=NOTHING,
)  # fmt: skip


def replica(name: str, *, healthy: bool = True, **fields: object) -> ReplicaReport:
    return ReplicaReport("chat", name, (replace(REPORT, **fields),), healthy=healthy)  # pyright: ignore[reportArgumentType]


@dataclass
class Counted:
    """A gateway that counts requests."""

    name: str

    def __post_init__(self) -> None:
        self._metrics = GatewayMetrics(self.name)
        self._metrics.configure(FLEET)
        self._metrics.in_flight.set(1)  # as while it is asked for its figures

    def request(
        self,
        status: int = 200,
        *,
        first_chunk_s: float | None = None,
        route: str = "/v1/chat/completions",
        **fields: object,
    ) -> None:
        record = Record("id", "POST", route, 0.0, model="tiny", status=status, first_chunk_s=first_chunk_s, **fields)  # pyright: ignore[reportArgumentType]
        self._metrics.observe(record, route=route, seconds=1.0)

    def text(self, reports: Sequence[ReplicaReport] = ()) -> str:
        return self._metrics.render(reports).decode()
