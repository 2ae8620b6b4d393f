"""Values that the chart refuses, and how it names what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deploy.chart import GPU, MINIMAL, Chart, Refused


def service(**changed: Any) -> str:
    base = {"name": "chat", "family": "transformer", "models": [{"id": "tiny", "source": "file:///m"}]}
    return f"services={json.dumps([{**base, **changed}])}"


def upstream(**changed: Any) -> str:
    models = [{"id": "far", "remote_id": "m"}]
    base = {"name": "far", "family": "upstream", "url": "https://far.example/v1", "models": models}
    return f"services={json.dumps([{**base, **changed}])}"


def two_services(first: dict[str, Any], second: dict[str, Any]) -> str:
    entries = [
        {"name": name, "family": "transformer", "models": [{"id": name, "source": "file:///m"}], **changed}
        for name, changed in (("a", first), ("b", second))
    ]
    return f"services={json.dumps(entries)}"


def gpu_group(**changed: Any) -> str:
    resources = {"cpu": "4", "memory": "16Gi"}
    base = {
        "name": "gpu",
        "accelerator": "L4",
        "minReplicas": 0,
        "maxReplicas": 2,
        "resources": resources,
        "shm": "1Gi",
    }
    return f"gpuGroups={json.dumps([{**base, **changed}])}"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (service(replicaz={"min": 1}), "replicaz"),
        (service(replicas={"minimum": 1}), "minimum"),
        (service(resources={"num_gpu": 1}), "num_gpu"),
        (service(resources={"memory": "2 gigs"}), "memory"),
        (service(resources={"memory": 0}), "memory"),
        (service(models=[]), "models"),
        (service(models=[{"id": "a", "source": "ftp://x"}]), "source"),
        (service(family="transformers"), "family"),
        (service(name="Chat"), "name"),
        ("services=[]", "services"),
        ("gatway={}", "gatway"),
        ('settings={"flush": 4}', "flush"),
        ('settings={"host": "0.0.0.0"}', "host"),
        ('image={"digest": "latest"}', "digest"),
        ('workers.minReplicas="two"', "minReplicas"),
        ("workers.minReplicas=0", "minReplicas"),
        ('workers={"replicas": 2}', "replicas"),
        ('workers.resources.cpu="1500m"', "cpu"),
        ('workers.shm="lots"', "shm"),
        ("workers.minReplicas=9", "over maxReplicas"),
        ("gpuWorkers={}", "gpuWorkers"),
        (gpu_group(gpuz=2), "gpuz"),
        (gpu_group(accelerator="no spaces"), "accelerator"),
        (gpu_group(name="cpu"), "name"),
        (gpu_group(minReplicas=3), "over maxReplicas"),
        (gpu_group(labels={"a": "b"}), "labels"),
        (service(resources={"num_gpus": 1}), "no group has room"),
        (service(resources={"gpu_memory": "10GiB", "accelerator": "L4"}), "chat.*accelerator L4.*the groups are: cpu"),
        (service(resources={"gpu_memory": "10GiB"}), "gpu_memory needs accelerator"),
        (service(resources={"num_cpus": 3}), "no group has room"),
        (service(resources={"memory": "9GiB"}), "no group has room"),
        ('image.tag="latest"', "tag"),
        ('redis={"enabled": true}', "redis.passwordSecret"),
        ('redis.passwordSecret={"name": "s", "value": "hunter2"}', "value"),
        ('postgresql={"enabled": true}', "postgresql.passwordSecret"),
        ("gcsFaultTolerance.enabled=true", "gcsFaultTolerance.redisAddress"),
        ('gcsFaultTolerance={"externalStorageNamespace": "x"}', "externalStorageNamespace"),
        ("podDisruptionBudget.enabled=true", "podDisruptionBudget.minAvailable"),
        ("gateway.ingress.enabled=true", "gateway.ingress.host"),
        ("gateway.httpRoute.enabled=true", "gateway.httpRoute.parentRefs"),
        ("metrics.monitors.enabled=true", "metrics.keySecret"),
        ('modelCache={"createClaim": true, "existingClaim": "c"}', "exclude each other"),
        ('autoscaler.idleTimeoutSeconds="60"', "idleTimeoutSeconds"),
        ("networkPolicy.egress=[]", "egress"),
        ("serviceAccount.rules=[]", "rules"),
        ('rayAuth="token"', "rayAuth"),
        ('topologySpread.whenUnsatisfiable="Never"', "whenUnsatisfiable"),
        ('gateway={"apiKeysSecret": ""}', "apiKeysSecret"),
        ('settings={"gateway_replicas": 2}', "gateway.storeSecret"),
        ('settings={"gateway_spread": true}', "gateway_replicas of 2 or more"),
        ('settings={"gateway_spread": true, "gateway_replicas": 2}', "workers.minReplicas is 1"),
        (
            'gateway={"storeSecret": "s",'
            ' "upstreamSecrets": [{"env": "CASTALIA_REDIS_URL", "secret": "s", "key": "k"}]}',
            "used twice",
        ),
        (service(name="gateway"), "gateway"),
        (service(replicas={"min": 3, "max": 2}), "replicas.min"),
        (two_services({"name": "b"}, {}), "used twice"),
        (upstream(secret_env="OTHER_KEY"), "OTHER_KEY"),
        (upstream(url="https://user:word@far.example/v1"), "url"),
        (upstream(replicas={"min": 1}), "replicas"),
        (upstream(models=[{"id": "far", "source": "file:///m"}]), "source"),
        ('gateway={"apiKeysSecret": "k", "upstreamSecrets": [{"env": "A", "secret": "s"}]}', "key"),
        (two_services({"models": [{"id": "b", "source": "file:///m"}]}, {}), "used twice"),
        ('routes=[{"name": "front", "targets": [{"model": "nobody"}]}]', "nobody"),
        ('routes=[{"name": "front", "targets": [{"model": "tiny"}], "fallbacks": ["nobody"]}]', "nobody"),
        ('routes=[{"name": "front", "targets": [{"model": "tiny"}], "mirror": {"model": "nobody"}}]', "nobody"),
        ('routes=[{"name": "tiny", "targets": [{"model": "tiny"}]}]', "has this name"),
        ('routes=[{"name": "front", "targets": []}]', "targets"),
    ],
)
def test_a_mistake_in_the_values_is_refused_by_name(chart: Chart, change: str, named: str) -> None:
    with pytest.raises(Refused, match=named):
        chart.render(MINIMAL, change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("autoscaler.enabled=false", "chat.*no group has room.*l4 .up to 0 pods"),
        ('gpuGroups[0].accelerator="T4"', "chat.*0.8193 GPUs of accelerator L4.*6, 24Gi|chat.*l4.*1 T4"),
        ('gpuGroups[0].resources.memory="8Gi"', "chat.*no group has room"),
        ("gpuGroups[0].maxReplicas=0", "chat.*no group has room"),
        ('services[0].resources={"num_gpus": 2}', "chat.*2 GPUs"),
        ('services[2].resources={"memory": "12GiB"}', "embeddings.*no group has room"),
    ],
)
def test_a_service_that_no_gpu_group_can_hold_is_refused(chart: Chart, change: str, named: str) -> None:
    with pytest.raises(Refused, match=named):
        chart.render(GPU, change)


def test_a_gpu_service_goes_into_a_group_that_has_room(chart: Chart) -> None:
    """What the refusals' helper makes is refused for what is changed, and not for itself."""
    manifests = chart.render(MINIMAL, gpu_group(), service(resources={"gpu_memory": "10GiB", "accelerator": "L4"}))
    assert "RayService" in {manifest["kind"] for manifest in manifests}
