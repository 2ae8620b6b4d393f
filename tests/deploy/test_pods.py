"""Every pod that will run: Kubernetes' own schemas of all its versions, and what it is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.chart import AIRGAPPED, GPU, HA, MIXED, Chart, Refused, all_pods, containers, of_kind, scenarios

OLDEST, NEWEST = 27, 37
VERSIONS = [f"1.{minor}" for minor in range(OLDEST, NEWEST + 1)]
BUILT_IN = re.compile(r"^(v1|apps/v1|policy/v1|networking\.k8s\.io/v1)$")
FOREIGN = {"RayService", "HTTPRoute", "PodMonitor", "ScrapeConfig", "PrometheusRule"}
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def as_pod(name: str, template: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": name}}


@scenarios
def test_helm_lints_it_and_would_install_it(chart: Chart, values: Path) -> None:
    assert "0 chart(s) failed" in chart.lint(values)
    assert "STATUS: pending-install" in chart.dry_run(values)


@scenarios
def test_objects_and_pods_follow_the_schemas_of_each_kubernetes(chart: Chart, values: Path) -> None:
    """Those with most objects against every version, the others against the first and the last."""
    manifests = chart.render(values)
    core = [manifest for manifest in manifests if BUILT_IN.match(manifest["apiVersion"])]
    assert {manifest["kind"] for manifest in manifests if manifest not in core} <= FOREIGN
    pods = [as_pod(name, template) for name, template in all_pods(manifests).items()]
    for kubernetes in VERSIONS if values in (HA, GPU) else (VERSIONS[0], VERSIONS[-1]):
        for manifest in [*core, *pods]:
            kubernetes_validate.validate(manifest, kubernetes, strict=True)


@pytest.mark.parametrize("kubernetes", [VERSIONS[0], VERSIONS[-1]])
def test_the_chart_renders_alike_for_every_kubernetes(chart: Chart, kubernetes: str) -> None:
    assert chart.render(HA, kubernetes=f"{kubernetes}.0") == chart.render(HA)


def test_an_older_kubernetes_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match="kubeVersion"):
        chart.render(GPU, kubernetes=f"1.{OLDEST - 1}.0")


@scenarios
def test_every_container_runs_under_the_restricted_policy_with_a_read_only_root(chart: Chart, values: Path) -> None:
    pods = all_pods(chart.render(values))
    for name, pod in pods.items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        kinds = {key for volume in spec.get("volumes", []) for key in volume if key != "name"}
        assert kinds <= {"emptyDir", "secret", "projected", "persistentVolumeClaim"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{name}/{container['name']}"
            assert all("hostPort" not in port for port in container.get("ports", []))
    assert {"autoscaler", "wait-gcs-ready"} & {each["name"] for pod in pods.values() for each in containers(pod)}


@scenarios
def test_rays_containers_write_where_they_must(chart: Chart, values: Path) -> None:
    for name, pod in chart.templates(values).items():
        (container,) = pod["spec"]["containers"]
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable >= {"/tmp", "/dev/shm"} | ({"/var/lib/castalia"} if name != "head" else set()), name
        shm = next(volume["emptyDir"] for volume in pod["spec"]["volumes"] if volume["name"] == "shm")
        assert shm["medium"] == "Memory"
        assert shm["sizeLimit"]


@scenarios
def test_every_container_has_its_resources_and_a_pinned_image(chart: Chart, values: Path) -> None:
    for name, pod in all_pods(chart.render(values)).items():
        for container in containers(pod):
            resources = container["resources"]
            assert resources["requests"] == resources["limits"], name
            assert {"cpu", "memory"} <= resources["limits"].keys()
            assert re.search(r"(@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)$", container["image"]), container["image"]


@scenarios
def test_a_kubernetes_token_is_in_the_autoscalers_container_alone(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    holders = []
    for name, pod in all_pods(manifests).items():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        projected = {volume["name"] for volume in pod["spec"].get("volumes", []) if "projected" in volume}
        holders += [
            (name, container["name"])
            for container in containers(pod)
            for mount in container.get("volumeMounts", [])
            if mount["name"] in projected or mount["mountPath"].startswith(TOKEN)
        ]
    has_autoscaler = any(container["name"] == "autoscaler" for container in containers(all_pods(manifests)["head"]))
    assert holders == ([("head", "autoscaler")] if has_autoscaler else [])


@scenarios
def test_nothing_is_permitted_beyond_what_the_operator_grants(chart: Chart, values: Path) -> None:
    kinds = {manifest["kind"] for manifest in chart.render(values)}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret"}


def test_weights_and_the_cache_come_from_claims_where_there_are_some(chart: Chart) -> None:
    def mounts(values: Path) -> dict[str, tuple[str, bool]]:
        spec = chart.templates(values)["cpu"]["spec"]
        claims = {
            v["name"]: v["persistentVolumeClaim"]["claimName"]
            for v in spec["volumes"]
            if len(v) > 1 and "persistentVolumeClaim" in v
        }
        found = spec["containers"][0]["volumeMounts"]
        return {m["mountPath"]: (claims[m["name"]], m.get("readOnly", False)) for m in found if m["name"] in claims}

    assert mounts(AIRGAPPED) == {"/models": ("weights", True)}
    assert mounts(GPU) == {"/var/lib/castalia/cache": ("test-castalia-models", False)}
    assert mounts(MIXED) == {"/var/lib/castalia/cache": ("models", False)}
    (claim,) = of_kind(chart.render(GPU), "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == "test-castalia-models"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert not of_kind(chart.render(MIXED), "PersistentVolumeClaim")


def test_an_airgapped_fleet_takes_images_from_its_mirror_alone(chart: Chart) -> None:
    secret = '.passwordSecret={"name": "s", "key": "k"}'
    state = [f"{name}{rest}" for name in ("redis", "postgresql") for rest in (".enabled=true", secret)]
    pods = all_pods(chart.render(AIRGAPPED, *state))
    images = {container["image"].partition("/")[0] for pod in pods.values() for container in containers(pod)}
    assert images == {"mirror.example.internal"}
    assert all(pod["spec"]["imagePullSecrets"] == [{"name": "mirror"}] for pod in pods.values())
    sources = re.findall(r"source: (\w+)", json.dumps(chart.serve_config(AIRGAPPED)).replace('"', ""))
    assert set(sources) <= {"file", "builtin"}


def test_state_servers_keep_their_files_and_ask_for_a_password(chart: Chart) -> None:
    for each in of_kind(chart.render(HA), "StatefulSet"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert [claim["metadata"]["name"] for claim in each["spec"]["volumeClaimTemplates"]] == ["data"]
        assert "data" in mounts
        assert [e["valueFrom"]["secretKeyRef"]["name"] for e in container["env"] if "valueFrom" in e] == [
            "castalia-state"
        ]
