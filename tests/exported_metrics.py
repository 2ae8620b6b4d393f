"""Owns what `/metrics` can show: the text of a gateway that has something to say of every metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from services.gateway.limits import LimitMetrics
from services.gateway.metrics import GatewayMetrics
from services.gateway.record import Record
from services.gateway.replica_metrics import COUNTED
from shared.config.models import FleetConfig
from shared.prediction import Pace, Share, Waiting
from shared.reports import DeviceMemory, Histogram, ModelReport, ReplicaReport

FLEET = FleetConfig.model_validate(
    {"services": [{"name": "s", "family": "transformer", "models": [{"id": "m", "source": "builtin://m"}]}]}
)
ONE = Histogram((1.0,), (1, 0), 1.0)
REPORT = ReplicaReport(
    "s",
    "r",
    (
        ModelReport(
            "m", "ready", "rev", {}, 1, 1, 1.0, 1, 1, 1, 1.0, {"error": 1}, ONE, ONE, ONE, 1.0,
            (Waiting(Share(0, "t", 1.0), 1.0),), Pace(1.0, 1.0, 1.0), places=1, batch_rows=ONE, load_s=1.0,
            counts={name: 1.0 for name, _ in COUNTED},
        ),
    ),
    healthy=True,
    devices=(DeviceMemory(1, 2),),
)  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """A metric by the name that a query uses: counters with their `_total`, histograms without any suffix."""

    name: str
    type: str
    labels: frozenset[str]  # but `le`, which every histogram has


def exported() -> list[Exported]:
    found: list[Exported] = []
    for family in text_string_to_metric_families(_text()):
        labels = frozenset(label for sample in family.samples for label in sample.labels)
        suffix = "_total" if family.type == "counter" else ""
        found.append(Exported(family.name + suffix, family.type, labels - {"le"}))
    return found


def exported_series() -> Mapping[str, frozenset[str]]:
    """Every series by its name, with its labels."""
    samples = [sample for family in text_string_to_metric_families(_text()) for sample in family.samples]
    return {sample.name: frozenset(sample.labels) for sample in samples}


def _text() -> str:
    metrics = GatewayMetrics("g")
    metrics.configure(FLEET)
    limits = LimitMetrics(metrics.registry)
    limits.refused("t", "requests")
    limits.shared(True)
    metrics.mirrored.labels("m", "ok").inc()
    metrics.paused("m", 1.0)
    for status in (200, 499, 503):
        metrics.observe(_record(status), route="/", seconds=1.0)
    return metrics.render([REPORT]).decode()


def _record(status: int) -> Record:
    record = Record("id", "POST", "/", 0.0, model="m", status=status, prompt_tokens=2, completion_tokens=1, units=1.0)
    record.first_chunk_s, record.cut, record.cached_tokens = 1.0, True, 1
    return record
