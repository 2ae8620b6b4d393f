"""The chart: values it takes, values it refuses, and what its pods are allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from services.fleet.environment import Ports, ray_environment
from shared.config.settings import Settings
from tests.deploy.chart import CHART, SCENARIOS, Chart, Refused, merged, pod_templates

KUBERNETES = "1.37"
scenarios = pytest.mark.parametrize("values", SCENARIOS.values(), ids=SCENARIOS.keys())
MINIMAL = SCENARIOS["cpu-minimal-values"]
MIXED = SCENARIOS["mixed-values"]


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


def test_the_schema_is_the_one_that_the_pydantic_classes_give() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.generate_schema", "--check"],
        capture_output=True,
        text=True,
        cwd=CHART.parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr


@scenarios
def test_lint_finds_nothing(chart: Chart, values: Path) -> None:
    assert "0 chart(s) failed" in chart.lint(values)


@scenarios
def test_core_manifests_follow_the_kubernetes_schemas(chart: Chart, values: Path) -> None:
    core = [manifest for manifest in chart.render(values) if manifest["apiVersion"] == "v1"]
    assert [manifest["kind"] for manifest in core] == ["Service"]
    for manifest in core:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@scenarios
def test_pods_follow_the_kubernetes_schema(chart: Chart, values: Path) -> None:
    for name, template in pod_templates(chart.ray_service(values)).items():
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": name}}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@scenarios
def test_pods_run_under_the_restricted_policy_with_a_read_only_root(chart: Chart, values: Path) -> None:
    for template in pod_templates(chart.ray_service(values)).values():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert writable >= {"/tmp", "/dev/shm"}


@scenarios
def test_every_container_states_its_resources(chart: Chart, values: Path) -> None:
    for template in pod_templates(chart.ray_service(values)).values():
        for container in template["spec"]["containers"]:
            resources = container["resources"]
            assert resources["requests"] == resources["limits"]
            assert {"cpu", "memory"} <= resources["limits"].keys()


@scenarios
def test_only_workers_take_replicas_traffic_and_keys(chart: Chart, values: Path) -> None:
    ray_service = chart.ray_service(values)
    assert ray_service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    gateway = next(manifest for manifest in chart.render(values) if manifest["kind"] == "Service")
    for name, template in pod_templates(ray_service).items():
        labels = template["metadata"]["labels"]
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        selected = gateway["spec"]["selector"].items() <= labels.items()
        probe = template["spec"]["containers"][0].get("readinessProbe", {}).get("httpGet", {}).get("path")
        expected = (False, False, None) if name == "head" else (True, True, "/readyz")
        assert (selected, "api-keys" in volumes, probe) == expected, name


def test_a_pod_outlives_the_longest_stream(chart: Chart) -> None:
    ray_service = chart.ray_service(MIXED)
    assert ray_service["spec"]["rayClusterDeletionDelaySeconds"] > 900
    for template in pod_templates(ray_service).values():
        assert template["spec"]["terminationGracePeriodSeconds"] > 900


def test_gpu_workers_are_drawn_only_for_services_that_ask_for_gpus(chart: Chart) -> None:
    assert set(pod_templates(chart.ray_service(MINIMAL))) == {"head", "cpu"}
    templates = pod_templates(chart.ray_service(MIXED))
    assert templates["gpu"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in templates["cpu"]["spec"]["containers"][0]["resources"]["limits"]


# What one machine needs and a pod does not: its own files, ports and threads, and what the operator sets.
LOCAL_ONLY = frozenset(
    {
        "PYTHONPATH",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
        "RAY_SERVE_HAPROXY_BINARY_PATH",
        "RAY_SERVE_HAPROXY_METRICS_PORT",
        "RAY_SERVE_HAPROXY_STATS_PORT",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED",
        "RAY_SERVE_HAPROXY_NBTHREAD",
        "RAY_SERVE_HAPROXY_MAXCONN",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC",
        "RAY_SERVE_HAPROXY_SOCKET_PATH",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT",
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S",
    }
)


def settings_of(template: dict[str, Any]) -> dict[str, str | None]:
    """What the pod's environment says of the settings, by their names; None: a Secret says it."""
    return {
        variable["name"].removeprefix("CASTALIA_").lower(): variable.get("value")
        for variable in template["spec"]["containers"][0]["env"]
        if variable["name"].startswith("CASTALIA_")
    }


@scenarios
def test_ray_has_the_same_switches_as_in_a_local_fleet(chart: Chart, values: Path, tmp_path: Path) -> None:
    settings = Settings.model_validate(merged(values)["settings"])
    local = ray_environment(settings, Ports(gateway=8000, block=20000), tmp_path)
    shared = {name: value for name, value in local.items() if name not in LOCAL_ONLY}
    for name, template in pod_templates(chart.ray_service(values)).items():
        given = {variable["name"]: variable.get("value") for variable in template["spec"]["containers"][0]["env"]}
        assert {key: given.get(key) for key in shared} == shared, name


def test_secrets_come_to_workers_alone(chart: Chart) -> None:
    found = {
        name: {
            variable["name"]: variable["valueFrom"]["secretKeyRef"]
            for variable in template["spec"]["containers"][0]["env"]
            if "valueFrom" in variable
        }
        for name, template in pod_templates(chart.ray_service(MIXED)).items()
    }
    references = {
        "OPENAI_API_KEY": {"name": "openai", "key": "api-key"},
        "CASTALIA_DATABASE_URL": {"name": "store", "key": "database-url", "optional": True},
        "CASTALIA_REDIS_URL": {"name": "store", "key": "redis-url", "optional": True},
    }
    assert found == {"head": {}, "cpu": references, "gpu": references}


def test_with_a_store_a_file_of_keys_may_be_done_without(chart: Chart) -> None:
    manifests = chart.render(MINIMAL, 'gateway={"apiKeysSecret": "", "storeSecret": "store"}')
    for name, template in pod_templates(manifests[-1]).items():
        assert "api-keys" not in json.dumps(template), name
        assert not settings_of(template).get("api_keys_file"), name


def test_a_remote_server_is_no_application_but_the_gateway_hears_of_it(chart: Chart) -> None:
    applications = {app["name"]: app for app in chart.serve_config(MIXED)["applications"]}
    assert set(applications) == {"small", "large", "gateway"}
    told = applications["gateway"]["deployments"][0]["user_config"]["services"]
    assert [entry["name"] for entry in told] == ["small", "large", "openai"]


def test_the_fleet_accepts_its_environment(chart: Chart) -> None:
    """Every CASTALIA_ variable of a pod is a setting, and takes the value that the chart writes."""
    given = settings_of(pod_templates(chart.ray_service(MIXED))["cpu"])
    assert given.keys() <= Settings.model_fields.keys()
    settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
    assert (settings.timeout_s, settings.haproxy, settings.max_body) == (900, False, 8 * 2**20)


def test_numbers_reach_the_fleet_as_they_are_written_and_null_as_the_default(chart: Chart) -> None:
    """Helm reads every number as a float64."""
    written = {"max_body": 2097152, "max_file": 10**12, "flush_ms": 0.5, "timeout_s": 900, "batch_concurrency": 4}
    changed = f"settings={json.dumps({**written, 'blob_url': None})}"
    given = settings_of(pod_templates(chart.render(MINIMAL, changed)[-1])["cpu"])
    settings = Settings.model_validate(given)
    assert {name: getattr(settings, name) for name in written} == written
    assert "blob_url" not in given


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
        ('workers={"replicas": "two"}', "replicas"),
        ('gateway={"apiKeysSecret": ""}', "apiKeysSecret"),
        ('settings={"gateway_replicas": 2}', "gateway.storeSecret"),
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
