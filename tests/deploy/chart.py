"""Owns the rendering of the chart in tests: values in, manifests out, and the pods that come of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm import run

CHART = Path(__file__).parents[2] / "deploy" / "chart" / "castalia"
SCENARIOS = {"default": CHART / "values.yaml", **{path.stem: path for path in sorted((CHART / "ci").glob("*.yaml"))}}
MINIMAL, MIXED, GPU, HA, AIRGAPPED, DEV, VLLM = (
    SCENARIOS[f"{name}-values"] for name in ("cpu-minimal", "mixed", "gpu", "ha", "airgapped", "dev", "vllm")
)
scenarios = pytest.mark.parametrize("values", SCENARIOS.values(), ids=SCENARIOS.keys())
# A fleet that listens on Ray's own ports, as the operator labels and names them.
METRICS_PORT = {"name": "metrics", "containerPort": 8080}

Manifest = dict[str, Any]


class Refused(Exception):
    """helm refused the values; the message is what it printed."""


@dataclass(frozen=True)
class Chart:
    helm: Path

    def lint(self, values: Path) -> str:
        done = run(self.helm, "lint", "--strict", str(CHART), "--values", str(values))
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)
        return done.stdout

    @cache  # noqa: B019 - a session has one Chart, and its renderings are read often
    def render(self, values: Path, *sets: str, kubernetes: str = "") -> tuple[Manifest, ...]:
        arguments = [item for value in sets for item in ("--set-json", value)]
        if kubernetes:
            arguments += ["--kube-version", kubernetes]
        done = run(self.helm, "template", "test", str(CHART), "--values", str(values), *arguments)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return tuple(manifest for manifest in yaml.safe_load_all(done.stdout) if manifest)

    def dry_run(self, values: Path) -> str:
        """What `helm install` would print, without a cluster."""
        done = run(self.helm, "install", "test", str(CHART), "--dry-run=client", "--values", str(values))
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout

    def ray_service(self, values: Path, *sets: str) -> Manifest:
        (found,) = of_kind(self.render(values, *sets), "RayService")
        return found

    def serve_config(self, values: Path, *sets: str) -> dict[str, Any]:
        return yaml.safe_load(self.ray_service(values, *sets)["spec"]["serveConfigV2"])

    def templates(self, values: Path, *sets: str) -> dict[str, Manifest]:
        return pod_templates(self.ray_service(values, *sets))


def merged(values: Path) -> dict[str, Any]:
    """values.yaml with a scenario laid over it, as Helm does: maps join, lists replace."""
    return over(yaml.safe_load((CHART / "values.yaml").read_text()), yaml.safe_load(values.read_text()))


def over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: over(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in changes.items()
    }
    return {**base, **both}


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def pod_templates(ray_service: Manifest) -> dict[str, Manifest]:
    """The pod template of the head and of each worker group, by name."""
    cluster = ray_service["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **groups}


def all_pods(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Every pod that will run, by name, with what KubeRay adds to those of Ray."""
    (ray_service,) = of_kind(manifests, "RayService")
    pods = {name: _as_kuberay_makes_it(name, ray_service, each) for name, each in pod_templates(ray_service).items()}
    for each in of_kind(manifests, "StatefulSet"):
        pods[each["metadata"]["name"]] = each["spec"]["template"]
    for each in of_kind(manifests, "Pod"):
        pods[each["metadata"]["name"]] = {"metadata": each["metadata"], "spec": each["spec"]}
    return pods


def containers(pod: Manifest) -> Iterator[Manifest]:
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def _as_kuberay_makes_it(name: str, ray_service: Manifest, template: Manifest) -> Manifest:
    """KubeRay 1.7: the head's autoscaler, the workers' init container, labels, a port."""
    spec = template["spec"]
    first = spec["containers"][0]
    first = {**first, "ports": [*first.get("ports", [])]}
    if not any(port["name"] == METRICS_PORT["name"] for port in first["ports"]):
        first["ports"].append(METRICS_PORT)
    labels = {**template["metadata"]["labels"], "ray.io/group": "headgroup" if name == "head" else name}
    cluster = ray_service["spec"]["rayClusterConfig"]
    added: dict[str, Any] = {}
    if name != "head":
        waits = ("image", "imagePullPolicy", "securityContext", "env", "volumeMounts")
        resources = {"cpu": "200m", "memory": "256Mi"}
        init = {"name": "wait-gcs-ready", **{key: first[key] for key in waits}}
        added["initContainers"] = [{**init, "resources": {"requests": resources, "limits": resources}}]
        containers = [first]
    elif cluster.get("enableInTreeAutoscaling"):
        given = cluster["autoscalerOptions"]
        takes = ("imagePullPolicy", "securityContext", "resources", "env", "volumeMounts")
        autoscaler = {"name": "autoscaler", "image": first["image"], **{key: given[key] for key in takes}}
        containers = [first, autoscaler]
    else:
        containers = [first]
    return {"metadata": {"labels": labels}, "spec": {**spec, **added, "containers": containers}}
