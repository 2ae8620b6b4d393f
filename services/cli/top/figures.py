"""Owns the figures of a fleet at one moment: from counters and cards to what a line of `castalia top` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.cli.client import ServedModel
from services.cli.top.scrapes import Scrapes

REFUSED = {"401", "403", "429", "503"}  # of these `castalia_refusals_total` tells more
OURS = {"/metrics", "/v1/models"}  # what `castalia top` itself asks


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """A model, or a route. None is not known. What has no present is since the reading before."""

    service: str  # empty while none of its replicas is there
    model: str
    state: str
    replicas: int  # of its service
    replicas_dead: int
    replicas_max: int | None
    rows_running: int
    rows_waiting: int
    occupancy: float | None  # share of the batch's places that were taken, 0 to 1
    units_per_s: float | None
    steps_per_s: float | None
    first_chunk_p50_s: float | None
    first_chunk_p95_s: float | None
    predicted_wait_s: float | None  # at the replica that is the least busy
    refusals_per_s: float | None
    errors_per_s: float | None


@dataclass(frozen=True, slots=True)
class GatewayFigures:
    gateway: str
    requests_per_s: float | None
    in_flight: int


@dataclass(frozen=True, slots=True)
class FleetFigures:
    models: Sequence[ModelFigures]
    gateways: Sequence[GatewayFigures]


def figures_of(scrapes: Scrapes, served: Sequence[ServedModel]) -> FleetFigures:
    """The models in the gateway's order, and after them what replicas have beside."""
    services = {
        labels["model"]: labels["service"]
        for name in ("model_ready", "waiting_rows")
        for labels, _ in scrapes.values(f"castalia_{name}")
    }
    states = {model.id: model.state for model in served}
    names = [*states, *(model for model in services if model not in states)]
    return FleetFigures(
        [_model(scrapes, name, services.get(name, ""), states.get(name, "")) for name in names],
        [_gateway(scrapes, name) for name in scrapes.gateways],
    )


def _model(scrapes: Scrapes, model: str, service: str, state: str) -> ModelFigures:
    up = [value for _, value in scrapes.values("castalia_engine_up", service=service)]
    most = _values(scrapes, "castalia_service_replicas_max", service=service)
    waits = _values(scrapes, "castalia_predicted_wait_seconds", model=model)
    first_chunk = "castalia_time_to_first_chunk_seconds"
    return ModelFigures(
        service=service,
        model=model,
        state=state,
        replicas=len(up),
        replicas_dead=up.count(0.0),
        replicas_max=int(max(most)) if most else None,
        rows_running=int(sum(_values(scrapes, "castalia_running_rows", model=model))),
        rows_waiting=int(sum(_values(scrapes, "castalia_waiting_rows", model=model))),
        occupancy=_occupancy(scrapes, model),
        units_per_s=scrapes.rate("castalia_units_total", model=model),
        steps_per_s=scrapes.rate("castalia_steps_total", model=model),
        first_chunk_p50_s=scrapes.quantile(0.5, first_chunk, model=model),
        first_chunk_p95_s=scrapes.quantile(0.95, first_chunk, model=model),
        predicted_wait_s=min(waits) if waits else None,
        refusals_per_s=scrapes.rate("castalia_refusals_total", model=model),
        errors_per_s=_errors(scrapes, model),
    )


def _gateway(scrapes: Scrapes, gateway: str) -> GatewayFigures:
    requests = scrapes.rates("castalia_requests_total", gateway=gateway)
    in_flight = sum(_values(scrapes, "castalia_requests_in_flight", gateway=gateway))
    return GatewayFigures(
        gateway,
        requests_per_s=None
        if requests is None
        else sum(rate for labels, rate in requests if labels["route"] not in OURS),
        in_flight=max(0, int(in_flight) - 1),  # the reading itself was one
    )


def _occupancy(scrapes: Scrapes, model: str) -> float | None:
    rows = scrapes.rate("castalia_row_steps_total", model=model)
    steps = scrapes.rate("castalia_steps_total", model=model)
    places = _values(scrapes, "castalia_batch_places", model=model)
    return rows / steps / max(places) if rows and steps and places else None


def _errors(scrapes: Scrapes, model: str) -> float | None:
    """Requests that ended in 5xx without being refused, and streams that were cut."""
    requests = scrapes.rates("castalia_requests_total", model=model)
    cut = scrapes.rate("castalia_streams_cut_total", model=model)
    if requests is None or cut is None:
        return None
    failed = sum(
        rate for labels, rate in requests if labels["status"].startswith("5") and labels["status"] not in REFUSED
    )
    return failed + cut


def _values(scrapes: Scrapes, name: str, **labels: str) -> list[float]:
    return [value for _, value in scrapes.values(name, **labels)]
