"""models.yaml as Ray Serve's configuration."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.app import SCALING_INTERVAL_S, SCALING_WINDOW_S, load_fleet_config, serve_config
from services.scaling.policy import Targets
from services.scaling.ray_policy import PredictedWait
from shared.config.base import ReplicaRange
from shared.config.models import FleetConfig
from shared.config.settings import Settings

ENTRY = {"name": "chat", "family": "transformer", "models": [{"id": "a", "source": "file://a", "max_batch_size": 8}]}


def rendered(*entries: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return serve_config(FleetConfig.model_validate({"services": list(entries)}), Settings(**settings))


def deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    (application,) = (app for app in config["applications"] if app["name"] == name)
    return application["deployments"][0]


def test_only_the_gateway_has_a_route() -> None:
    routes = {app["name"]: app["route_prefix"] for app in rendered(ENTRY)["applications"]}
    assert routes == {"chat": None, "gateway": "/"}


def test_a_changed_model_changes_no_argument_and_so_restarts_no_replica() -> None:
    changed = {**ENTRY, "models": [{"id": "b", "source": "file://b", "max_batch_size": 8}]}
    before, after = rendered(ENTRY), rendered(changed)
    assert [app.get("args") for app in before["applications"]] == [app.get("args") for app in after["applications"]]
    reconfigured = {"user_config"}
    for name in ("chat", "gateway"):
        old, new = deployment(before, name), deployment(after, name)
        assert {key for key in new if old[key] != new[key]} == reconfigured


def test_rays_own_limits_which_know_no_tenant_never_hold_a_request_back() -> None:
    replica, gateway = (deployment(rendered(ENTRY), name) for name in ("chat", "gateway"))
    assert replica["max_ongoing_requests"] == gateway["max_ongoing_requests"] == 65536
    assert replica["max_queued_requests"] == -1


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ({"min": 2, "max": 2}, {"num_replicas": 2}),
        (
            {"min": 0, "max": 4, "target_ongoing": 8, "target_wait_s": 2, "idle_s": 60},
            {
                "autoscaling_config": {
                    "min_replicas": 0,
                    "max_replicas": 4,
                    "target_ongoing_requests": 8,
                    "metrics_interval_s": SCALING_INTERVAL_S,
                    "look_back_period_s": SCALING_WINDOW_S,
                    "upscale_delay_s": 0,
                    "downscale_delay_s": 0,
                    "policy": {
                        "policy_function": "services.scaling.ray_policy:PredictedWait",
                        "policy_kwargs": {
                            "target_wait_s": 2,
                            "target_busy": 0.8,
                            "target_ongoing": 8,
                            "growth": 2,
                            "release": 0.8,
                            "upscale_delay_s": 1,
                            "downscale_delay_s": 180,
                            "idle_s": 60,
                        },
                    },
                }
            },
        ),
    ],
)
def test_replicas_are_fixed_or_scale_down_to_zero(replicas: dict[str, Any], expected: dict[str, Any]) -> None:
    found = deployment(rendered({**ENTRY, "replicas": replicas}), "chat")
    keys = ("num_replicas", "autoscaling_config")
    assert {key: found[key] for key in keys if key in found} == expected


def test_old_replicas_stop_first_unless_more_may_run_meanwhile() -> None:
    found = [deployment(rendered({**ENTRY, "replicas": each}), "chat") for each in ({}, {"surge_percent": 25})]
    assert [each["max_surge_percent"] for each in found] == [0, 25]


def test_the_policy_is_given_what_models_yaml_says_by_the_names_that_it_has_there() -> None:
    config = deployment(rendered({**ENTRY, "replicas": {"max": 2}}), "chat")["autoscaling_config"]
    kwargs = config["policy"]["policy_kwargs"]
    rays = {"min", "max", "surge_percent"}
    assert kwargs.keys() == {field.name for field in fields(Targets)} == ReplicaRange.model_fields.keys() - rays
    assert callable(PredictedWait(**kwargs))


def test_a_part_of_a_device_is_what_the_memory_says_on_a_node_with_such_devices() -> None:
    resources = {"gpu_memory": "10GiB", "accelerator": "L4"}
    options = deployment(rendered({**ENTRY, "resources": resources}), "chat")["ray_actor_options"]
    assert options["num_gpus"] == 0.4572, "10240 of 22400 MiB, rounded up"
    assert options["label_selector"] == {"ray.io/accelerator-type": "L4"}
    plain = deployment(rendered({**ENTRY, "resources": {"num_gpus": 1}}), "chat")["ray_actor_options"]
    assert plain == {"num_cpus": 0.05, "num_gpus": 1.0, "memory": 2 * 2**30}


def test_streams_are_given_longer_to_drain_than_the_longest_request_may_take() -> None:
    config = rendered(ENTRY, timeout_s=900)
    for name in ("chat", "gateway"):
        assert deployment(config, name)["graceful_shutdown_timeout_s"] > 900


def test_user_config_says_what_the_file_says_and_is_read_back_equal() -> None:
    entry = {**ENTRY, "resources": {"memory": "1.5GiB"}}
    user_config = deployment(rendered(entry), "chat")["user_config"]
    assert user_config.keys() == entry.keys()
    again = FleetConfig.model_validate({"services": [user_config]})
    assert again == FleetConfig.model_validate({"services": [entry]})
    assert deployment(rendered(entry), "gateway")["user_config"] == {"services": [user_config]}


def test_routes_reach_the_gateway_and_nothing_else() -> None:
    route = {"name": "front", "targets": [{"model": "a", "weight": 2}]}
    config = serve_config(FleetConfig.model_validate({"services": [ENTRY], "routes": [route]}), Settings())
    assert deployment(config, "gateway")["user_config"]["routes"] == [route]
    assert deployment(config, "chat") == deployment(rendered(ENTRY), "chat")


def test_a_misspelt_key_in_models_yaml_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("services:\n  - {name: a, family: transformer, model: []}\n")
    with pytest.raises(ValidationError, match=r"services\.0\.(\w+\.)?model\b"):
        load_fleet_config(path)


def test_reading_the_configuration_and_the_fleets_commands_do_not_import_ray() -> None:
    code = "import sys, services.app, services.fleet, services.fleet.process; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_as_many_gateways_answer_as_the_settings_say() -> None:
    assert deployment(rendered(ENTRY), "gateway")["num_replicas"] == 1
    assert deployment(rendered(ENTRY, gateway_replicas=3), "gateway")["num_replicas"] == 3


def test_gateways_on_nodes_of_their_own_are_replaced_in_turn_as_no_node_is_left_for_one_more() -> None:
    alone = deployment(rendered(ENTRY), "gateway")
    spread = deployment(rendered(ENTRY, gateway_spread=True, gateway_replicas=2), "gateway")
    assert (alone["max_surge_percent"], alone.get("max_replicas_per_node")) == (100, None)
    assert (spread["max_surge_percent"], spread["max_replicas_per_node"]) == (0, 1)
