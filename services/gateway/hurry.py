"""Owns telling Ray Serve's controller at once that a service at rest is asked for. Never sees a call.

Ray means to do so itself. What it sends then (2.60) is what it recorded before the request came, which is nothing: the
controller hears of the request by the record and the push that come in their turn, each within `metrics_interval_s`.
"""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle

DELAYS_S = (0.02, 0.2)  # once Ray's router has the request in its queue, and in case a push was still under way


def hurry(handle: DeploymentHandle[object]) -> None:
    """Call it right after a request. Without effect on a service that has a replica, or does not scale."""
    outer: Any = getattr(handle, "_router", None)
    router: Any = getattr(outer, "_asyncio_router", None)
    if router is None or _replicas(router):
        return
    loop = outer.event_loop
    for delay_s in DELAYS_S:
        loop.call_soon_threadsafe(loop.call_later, delay_s, _tell, router)


def _tell(router: Any) -> None:
    """Runs on the router's own loop, as all that it records and pushes does."""
    metrics = router._metrics_manager
    if metrics.should_send_scaled_to_zero_optimized_push(curr_num_replicas=_replicas(router)):
        metrics._add_autoscaling_metrics_point()
        metrics.push_autoscaling_metrics_to_controller()


def _replicas(router: Any) -> int:
    routing = router._request_router  # what is public of it would make one, on the wrong thread
    return 0 if routing is None else len(routing.curr_replicas)
