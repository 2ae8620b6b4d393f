"""Owns the rendering of the chart in tests: values in, manifests out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.helm import run

CHART = Path(__file__).parents[2] / "deploy" / "chart" / "castalia"
SCENARIOS = {"default": CHART / "values.yaml", **{path.stem: path for path in sorted((CHART / "ci").glob("*.yaml"))}}


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
    def render(self, values: Path, *sets: str) -> tuple[dict[str, Any], ...]:
        arguments = [item for value in sets for item in ("--set-json", value)]
        done = run(self.helm, "template", "test", str(CHART), "--values", str(values), *arguments)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return tuple(yaml.safe_load_all(done.stdout))

    def ray_service(self, values: Path) -> dict[str, Any]:
        return next(manifest for manifest in self.render(values) if manifest["kind"] == "RayService")

    def serve_config(self, values: Path) -> dict[str, Any]:
        return yaml.safe_load(self.ray_service(values)["spec"]["serveConfigV2"])


def merged(values: Path) -> dict[str, Any]:
    """values.yaml with a scenario laid over it, as Helm does: maps join, lists replace."""
    return _over(yaml.safe_load((CHART / "values.yaml").read_text()), yaml.safe_load(values.read_text()))


def _over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _over(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in over.items()
    }
    return {**base, **both}


def pod_templates(ray_service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pod template of the head and of each worker group, by name."""
    cluster = ray_service["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **groups}
