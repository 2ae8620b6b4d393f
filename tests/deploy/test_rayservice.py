"""The RayService: KubeRay's own schema, which CASTALIA_CRD_DIR holds (rayservices-v1.json), and what it promises."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ByteSize, TypeAdapter

from tests.deploy.chart import DEV, GPU, HA, MIXED, SCENARIOS, VLLM, Chart, Refused, scenarios

BYTES = TypeAdapter(ByteSize)
CRD_DIR = os.environ.get("CASTALIA_CRD_DIR")
with_crds = pytest.mark.skipif(CRD_DIR is None, reason="CASTALIA_CRD_DIR names no folder of KubeRay's CRD schemas")


def strict(schema: Any) -> Any:
    """An OpenAPI v3 schema as JSON Schema that refuses unknown keys, as the API server's strict mode does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        out["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        out.setdefault("additionalProperties", False)
    return out


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = strict(json.loads((Path(CRD_DIR or "") / "rayservices-v1.json").read_text()))
    return jsonschema.Draft202012Validator(schema)


@with_crds
@scenarios
def test_the_rayservice_follows_kuberays_schema(
    chart: Chart, validator: jsonschema.Draft202012Validator, values: Path
) -> None:
    validator.validate(chart.ray_service(values))


@with_crds
@pytest.mark.parametrize(
    ("path", "key", "value", "said"),
    [
        (("workerGroupSpecs", 0), "minReplicaz", 1, "minReplicaz"),
        (("workerGroupSpecs", 0), "labels", {"ray.io/accelerator-type": 4}, "not of type 'string'"),
        (("headGroupSpec", "rayStartParams"), "num-cpus", 0, "not of type 'string'"),
        (("autoscalerOptions",), "version", "v3", "is not one of"),
    ],
)
def test_the_check_would_see_a_mistake(
    chart: Chart, validator: jsonschema.Draft202012Validator, path: tuple[Any, ...], key: str, value: Any, said: str
) -> None:
    manifest = json.loads(json.dumps(chart.ray_service(SCENARIOS["default"])))
    place = manifest["spec"]["rayClusterConfig"]
    for step in path:
        place = place[step]
    place[key] = value
    with pytest.raises(jsonschema.ValidationError, match=said):
        validator.validate(manifest)


def cluster(chart: Chart, values: Path, *sets: str) -> dict[str, Any]:
    return chart.ray_service(values, *sets)["spec"]["rayClusterConfig"]


def groups(chart: Chart, values: Path, *sets: str) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in cluster(chart, values, *sets)["workerGroupSpecs"]}


@scenarios
def test_the_head_takes_no_replica(chart: Chart, values: Path) -> None:
    assert cluster(chart, values)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert chart.ray_service(values)["spec"]["excludeHeadPodFromServeSvc"] is True


@scenarios
def test_the_object_store_has_room_in_the_memory_that_is_mounted_for_it(chart: Chart, values: Path) -> None:
    for group in (cluster(chart, values)["headGroupSpec"], *groups(chart, values).values()):
        mounted = next(each for each in group["template"]["spec"]["volumes"] if each["name"] == "shm")
        size = BYTES.validate_python(f"{mounted['emptyDir']['sizeLimit']}B")
        assert 0.8 * size < int(group["rayStartParams"]["object-store-memory"]) < size


def test_pods_that_clients_come_by_outlast_the_longest_stream_and_those_with_devices_go_at_once(chart: Chart) -> None:
    found = groups(chart, GPU, "settings.timeout_s=900")
    assert "idleTimeoutSeconds" not in found["l4"]
    assert found["cpu"]["idleTimeoutSeconds"] == 900 + 30 + 120


def test_gpu_pods_come_from_nothing_and_carry_the_label_that_the_autoscaler_reads(chart: Chart) -> None:
    assert cluster(chart, GPU)["enableInTreeAutoscaling"] is True
    assert cluster(chart, GPU)["autoscalerOptions"]["version"] == "v2"
    group = groups(chart, GPU)["l4"]
    assert (group["minReplicas"], group["maxReplicas"], group["replicas"]) == (0, 6, 0)
    assert group["labels"] == {"ray.io/accelerator-type": "L4"}
    container = group["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "labels" not in groups(chart, GPU)["cpu"]
    assert groups(chart, MIXED)["gpu"]["template"]["spec"]["runtimeClassName"] == "nvidia"


def test_a_replica_asks_for_the_label_that_its_group_has(chart: Chart) -> None:
    options = {
        app["name"]: app["deployments"][0]["ray_actor_options"] for app in chart.serve_config(GPU)["applications"]
    }
    assert options["chat"]["label_selector"] == groups(chart, GPU)["l4"]["labels"]
    assert 0.8 < options["chat"]["num_gpus"] < 0.83, "18 GiB of the 22,500 MiB of an L4"
    assert options["embeddings"]["num_gpus"] == 0
    assert options["embeddings"]["label_selector"] == {"ray.io/accelerator-type": "!in(L4)"}, "it keeps a GPU node up"


def test_a_model_that_is_spread_asks_for_as_many_devices_as_a_node_of_its_group_has(chart: Chart) -> None:
    large, small, _ = (app["deployments"][0] for app in chart.serve_config(VLLM)["applications"])
    group = groups(chart, VLLM)["h100"]
    container = group["template"]["spec"]["containers"][0]
    assert str(len(large["placement_group_bundles"])) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert large["placement_group_bundle_label_selector"] == [group["labels"]]
    assert large["placement_group_strategy"] == "STRICT_PACK"
    assert (large["ray_actor_options"]["num_gpus"], small["ray_actor_options"]["num_gpus"]) == (0, 1)
    assert "placement_group_bundles" not in small


def test_a_node_with_fewer_devices_than_a_model_is_spread_over_is_no_room_for_it(chart: Chart) -> None:
    with pytest.raises(Refused, match=r"service \"chat-large\": no group has room .* 4 GPUs"):
        chart.serve_config(VLLM, "gpuGroups[0].gpus=2")


def test_without_an_autoscaler_groups_keep_their_size(chart: Chart) -> None:
    assert cluster(chart, DEV)["enableInTreeAutoscaling"] is False
    assert "autoscalerOptions" not in cluster(chart, DEV)
    group = groups(chart, MIXED, 'autoscaler={"enabled": false}')["gpu"]
    assert (group["replicas"], group["maxReplicas"]) == (1, 1)


def test_the_clusters_state_outlives_its_head_and_is_each_clusters_own(chart: Chart) -> None:
    assert cluster(chart, HA)["gcsFaultToleranceOptions"] == {
        "redisAddress": "test-castalia-redis:6379",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "castalia-state", "key": "redis"}}},
    }
    assert cluster(chart, MIXED)["gcsFaultToleranceOptions"] == {
        "redisAddress": "redis.example.com:6380",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
    }
    assert "gcsFaultToleranceOptions" not in cluster(chart, GPU)


def test_ray_asks_for_a_token_unless_it_is_told_not_to(chart: Chart) -> None:
    assert cluster(chart, HA)["authOptions"] == {"mode": "token"}
    assert cluster(chart, DEV)["authOptions"] == {"mode": "disabled"}


@scenarios
def test_old_clusters_and_pods_outlive_the_longest_stream(chart: Chart, values: Path) -> None:
    """sleep + Serve's own drain + a margin fit into what a pod is given; and the old cluster stays as long."""
    spec = chart.ray_service(values)["spec"]
    drains = {
        deployment["graceful_shutdown_timeout_s"]
        for application in chart.serve_config(values)["applications"]
        for deployment in application["deployments"]
    }
    assert min(drains) > 600
    for name, template in chart.templates(values).items():
        if name == "head":
            continue
        sleep = int(template["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
        assert sleep >= 10
        assert template["spec"]["terminationGracePeriodSeconds"] >= sleep + max(drains) + 15, name
    assert spec["rayClusterDeletionDelaySeconds"] >= max(drains)


@scenarios
def test_a_head_that_is_asked_to_end_ends_at_once(chart: Chart, values: Path) -> None:
    """It has no streams, and would wait in vain for Serve's controller to leave it: the next head comes after it."""
    head = chart.templates(values)["head"]["spec"]
    assert {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"} in head["containers"][0]["env"]
    assert "lifecycle" not in head["containers"][0]
    assert head["terminationGracePeriodSeconds"] == 30


def test_the_longest_request_says_how_long_that_is(chart: Chart) -> None:
    grace = [chart.templates(values)["cpu"]["spec"]["terminationGracePeriodSeconds"] for values in (GPU, HA)]
    assert grace[1] - grace[0] == 300
