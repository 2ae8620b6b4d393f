"""The policy as Ray Serve calls it: through Ray's own configuration, pickle and wrapper, with Ray's own context."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from services.app import serve_config
from services.scaling.load import ReplicaLoad
from shared.config.models import FleetConfig
from shared.config.settings import Settings

DEPLOYMENT = DeploymentID("Replica", "chat")
ENTRY = {"name": "chat", "family": "transformer", "models": [{"id": "a", "source": "file://a"}]}
FULL = ReplicaLoad(40.0, 20.0, 1.0, 3.0, 1.0)
IDLE = ReplicaLoad(is_paced=1.0)


@pytest.fixture
def config() -> AutoscalingConfig:
    entry = {**ENTRY, "replicas": {"min": 0, "max": 4, "upscale_delay_s": 0, "downscale_delay_s": 10, "idle_s": 20}}
    rendered = serve_config(FleetConfig.model_validate({"services": [entry]}), Settings())
    return AutoscalingConfig.model_validate(rendered["applications"][0]["deployments"][0]["autoscaling_config"])


class Controller:
    """Calls a policy as Ray's controller does: its state is kept, its number is the next target."""

    def __init__(self, config: AutoscalingConfig) -> None:
        self._config = config
        self._policy = _apply_autoscaling_config(_resolve_policy_callable(config.policy))
        self._state: dict[str, Any] = {}
        self.target = 0

    def tick(self, at: float, loads: list[ReplicaLoad | None], *, requests: float) -> int:
        replicas = [ReplicaID(str(index), DEPLOYMENT) for index in range(len(loads))]
        metrics: dict[str, dict[ReplicaID, list[TimeStampedValue]]] = {}
        for replica, load in zip(replicas, loads, strict=True):
            for name, value in (load.as_metrics() if load else {}).items():
                old, new = TimeStampedValue(at - 1, 0.0), TimeStampedValue(at, value)
                metrics.setdefault(name, {})[replica] = [old, new]
        context = AutoscalingContext(
            DEPLOYMENT, "Replica", "chat", len(replicas), self.target, replicas, lambda: requests, None, None,
            lambda: metrics, 0, 4, self._state.copy(), None, None, at, self._config,
        )  # fmt: skip
        self.target, self._state = self._policy(context)
        return self.target


def test_a_service_wakes_grows_shrinks_and_rests_by_our_times_alone(config: AutoscalingConfig) -> None:
    controller = Controller(config)
    assert controller.tick(0.0, [], requests=0) == 0
    assert controller.tick(0.1, [], requests=0.2) == 1, "the first request wakes it at once"
    assert controller.tick(5.0, [], requests=30) == 1, "Ray asks nobody while the first replica starts"
    assert controller.tick(9.0, [FULL], requests=30) == 2
    assert controller.tick(9.1, [FULL], requests=30) == 2
    assert controller.tick(12.0, [FULL, FULL], requests=60) == 4
    assert controller.tick(20.0, [IDLE] * 4, requests=1) == 4
    assert controller.tick(30.0, [IDLE] * 4, requests=1) == 1
    assert controller.tick(31.0, [IDLE], requests=0) == 1
    assert controller.tick(51.0, [IDLE], requests=0) == 0


def test_a_service_of_many_replicas_that_is_idle_rests_within_two_decisions(config: AutoscalingConfig) -> None:
    controller = Controller(config)
    controller.target = 3
    controller.tick(0.0, [IDLE, None, IDLE], requests=0)
    assert controller.tick(20.0, [IDLE, None, IDLE], requests=0) == 1, "Ray goes to zero from one alone"
    assert controller.tick(20.1, [IDLE], requests=0) == 0


def test_the_last_that_a_replica_said_counts(config: AutoscalingConfig) -> None:
    controller = Controller(config)
    controller.target = 1
    assert controller.tick(0.0, [FULL], requests=9) == 2, "a mean with what it said before would have been within 5 s"
