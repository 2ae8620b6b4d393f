"""Owns the loads and services that the planner's tests simulate: defaults, and what a test changes."""

from __future__ import annotations

from typing import Any

from loadtests.planner.plan import Load, Service


def a_load(*, rates: dict[str, Any] | None = None, **fields: Any) -> Load:
    """One place that makes a unit a second, and a queue that refuses nothing."""
    fields = {"output": 1, "max_wait_s": 1e9, **fields}
    return Load.model_validate({"rates": rates or {"units_per_second": {1: 1.0}}, **fields})


def places(count: int, *, linear: bool = True) -> dict[str, Any]:
    """Rates of so many places: each as fast as if it were alone, or all together as fast as one."""
    return {"units_per_second": {1: 1.0, count: float(count) if linear else 1.0}}


def a_service(**fields: Any) -> Service:
    """As the one that autoscaling is simulated with: 16 places of 25 units a second, 4 requests a second in all."""
    given = {
        "name": "chat",
        "rates": {"units_per_second": {1: 25, 16: 400}},
        "output": {"low": 50, "high": 150},
        "replicas": {"min": 0, "max": 8},
        "first_replicas": 0,
        "start_s": 40,
        "objectives": {"wait_s": 5, "attainment": 0.95},
        "traffic": [{"constant": 10}],
        **fields,
    }
    return Service.model_validate(given)
