"""How Ray Serve's controller hears at once of a service at rest: beside Ray's own record and push."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.router import AsyncioRouter, RouterMetricsManager, SingletonThreadRouter
from ray.serve.handle import DeploymentHandle

from services.gateway import hurry as hurrying
from services.gateway.hurry import hurry


@dataclass
class Metrics:
    """Ray's, as far as they are used: `queued` requests of a deployment that scales."""

    queued: int
    done: list[str] = field(default_factory=list)

    def should_send_scaled_to_zero_optimized_push(self, curr_num_replicas: int) -> bool:
        return curr_num_replicas == 0 and self.queued > 0

    def _add_autoscaling_metrics_point(self) -> None:
        self.done.append("record")

    def push_autoscaling_metrics_to_controller(self) -> None:
        self.done.append("push")


def handle_of(metrics: Metrics, replicas: list[str] | None) -> Any:
    routing = None if replicas is None else SimpleNamespace(curr_replicas=replicas)
    router = SimpleNamespace(_request_router=routing, _metrics_manager=metrics)
    outer = SimpleNamespace(_asyncio_router=router, event_loop=asyncio.get_running_loop())
    return SimpleNamespace(_router=outer)


@pytest.mark.parametrize(
    ("queued", "replicas", "done"),
    [
        (1, [], ["record", "push"] * 2),
        (1, None, ["record", "push"] * 2),  # its router has not heard of the deployment yet
        (1, ["a"], []),
        (0, [], []),
    ],
)
async def test_what_is_queued_for_a_service_without_replicas_is_recorded_and_pushed(
    queued: int, replicas: list[str] | None, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hurrying, "DELAYS_S", (0.0, 0.001))
    metrics = Metrics(queued)
    hurry(handle_of(metrics, replicas))
    await asyncio.sleep(0.02)
    assert metrics.done == done


def test_a_handle_that_was_never_used_has_nothing_to_tell() -> None:
    hurry(DeploymentHandle("Replica", "chat"))


def test_ray_has_what_is_used_of_it() -> None:
    for name in ("_add_autoscaling_metrics_point", "push_autoscaling_metrics_to_controller"):
        assert callable(getattr(RouterMetricsManager, name))
    assert callable(RouterMetricsManager.should_send_scaled_to_zero_optimized_push)
    assert {"_request_router", "_metrics_manager"} <= {*AsyncioRouter.__init__.__code__.co_names}
    assert isinstance(SingletonThreadRouter.event_loop, property)
