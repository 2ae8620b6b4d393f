"""Owns the policies that are compared, each as Ray Serve runs it: its functions around them, on simulated time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.serve import autoscaling_policy as rays
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from loadtests.autoscaling_sim import Decide, Seen, Service
from services.scaling.ray_policy import PredictedWait
from shared.config.base import ReplicaRange

Policy = Callable[[AutoscalingContext], tuple[Any, Mapping[str, Any]]]
DEPLOYMENT = DeploymentID("Replica", "simulated")
DEFAULTS = ReplicaRange()


def predicted_wait(service: Service, **changes: float) -> Decide:
    config = _config(service, upscale_delay_s=0, downscale_delay_s=0)
    return _UnderRay(config, PredictedWait(**{**DEFAULTS.targets, **changes}))


def ongoing_requests(service: Service) -> Decide:
    """Ray's default policy and delays, told the best target it could have: the places of a replica."""
    config = _config(service, target_ongoing_requests=service.places)
    return _UnderRay(config, rays.replica_queue_length_autoscaling_policy)


def ongoing_requests_quickly(service: Service) -> Decide:
    """The same with the delays that our policy has, which leaves the signal as the difference."""
    config = _config(
        service,
        target_ongoing_requests=service.places,
        upscale_delay_s=DEFAULTS.upscale_delay_s,
        downscale_delay_s=DEFAULTS.downscale_delay_s,
        downscale_to_zero_delay_s=DEFAULTS.idle_s,
    )
    return _UnderRay(config, rays.replica_queue_length_autoscaling_policy)


def _config(service: Service, **changes: float) -> AutoscalingConfig:
    return AutoscalingConfig(min_replicas=service.least, max_replicas=service.most, **changes)


class _UnderRay:
    """What `ray.serve` wraps around every policy, from its own parts, which read the clock otherwise."""

    def __init__(self, config: AutoscalingConfig, policy: Policy) -> None:
        self._config = config
        self._policy = policy
        self._state: dict[str, Any] = {}

    def __call__(self, seen: Seen) -> int:
        context = self._context(seen)
        cold = rays._get_cold_start_scale_up_replicas(context)
        if cold is not None:
            return cold
        delays = rays._extract_internal_policy_state(self._state)
        wanted, state = self._policy(context)
        wanted = rays._apply_scaling_factors(wanted, context.current_num_replicas, self._config)
        if context.current_num_replicas == 0 and wanted > 0:
            self._state = {**state, **delays}
            return wanted
        decided, delays = rays._apply_delay_logic(max(0, wanted), seen.wanted, self._config, delays, _now=seen.at)
        self._state = {**state, **delays}
        return decided

    def _context(self, seen: Seen) -> AutoscalingContext:
        replicas = [ReplicaID(str(index), DEPLOYMENT) for index in range(len(seen.loads))]
        metrics: dict[str, dict[ReplicaID, list[TimeStampedValue]]] = {}
        for replica, load in zip(replicas, seen.loads, strict=True):
            for name, value in (load.as_metrics() if load else {}).items():
                metrics.setdefault(name, {})[replica] = [TimeStampedValue(seen.at, value)]
        return AutoscalingContext(
            deployment_id=DEPLOYMENT,
            deployment_name=DEPLOYMENT.name,
            app_name=DEPLOYMENT.app_name,
            current_num_replicas=len(replicas),
            target_num_replicas=seen.wanted,
            running_replicas=replicas,
            total_num_requests=seen.requests,
            total_queued_requests=None,
            aggregated_metrics=None,
            raw_metrics=metrics,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=seen.at,
            config=self._config,
        )
