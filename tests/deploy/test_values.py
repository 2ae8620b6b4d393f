"""Every value: documented, used, checked; and what the fleet reads of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.generate_readme import sections
from tests.deploy.chart import AIRGAPPED, CHART, GPU, HA, MINIMAL, MIXED, Chart, merged

ROOT = CHART.parents[2]
ROWS = {row.path: row for section in sections() for row in section.rows}
# Where a part of the values shows; else in the scenario `ha`.
BASES = {
    "gateway.httpRoute": MIXED,
    "gateway.upstreamSecrets": MIXED,
    "gateway.apiKeysSecret": MIXED,
    "gcsFaultTolerance.redisAddress": MIXED,
    "gcsFaultTolerance.passwordSecret": MIXED,
    "gpuGroups": GPU,
    "modelCache": GPU,
    "weights": AIRGAPPED,
}
PEER = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
# What generic changes of a value cannot give: other values that are allowed there.
OTHER: dict[str, Any] = {
    "services": [{"name": "a", "family": "gan", "models": [{"id": "a", "source": "file:///m"}]}],
    "routes": [{"name": "front", "targets": [{"model": "tiny"}]}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}],
    "image.digest": f"sha256:{'0' * 64}",
    "image.pullPolicy": "Always",
    "image.pullSecrets": ["registry"],
    "redis.image.digest": f"sha256:{'0' * 64}",
    "postgresql.image.digest": f"sha256:{'0' * 64}",
    "settings.log_level": "DEBUG",
    "settings.timeout_s": 100,
    "settings.report_s": 0.25,
    "settings.blob_url": "s3://bucket",
    "settings.otlp_endpoint": "http://collector:4318",
    "settings.trace_ratio": 0.5,
    "gateway.service.type": "NodePort",
    "gateway.upstreamSecrets": [{"env": "OPENAI_API_KEY", "secret": "other", "key": "k"}],
    "gateway.httpRoute.parentRefs": [{"name": "other"}],
    "gateway.httpRoute.hostnames": ["other.example.com"],
    "topologySpread.whenUnsatisfiable": "ScheduleAnyway",
    "gcsFaultTolerance.redisAddress": "other:6379",
    "modelCache.createClaim": False,
    "weights.mountPath": "/elsewhere",
    "networkPolicy.gatewayFrom": PEER,
    "networkPolicy.apiServer": PEER,
    "networkPolicy.operator": PEER[0],
    "networkPolicy.prometheus": PEER[0],
    "networkPolicy.extraEgress": [{"to": PEER}],
    "gpuGroups[].accelerator": "A10G",
    "gpuGroups[].gpuResource": "amd.com/gpu",
    "gpuGroups[].minReplicas": 1,
    "gpuGroups[].maxReplicas": 9,
    "metrics.monitors.interval": "10s",
}
# Changes that are allowed only beside another, which is made before.
BESIDE = {
    "redis.enabled": ['gcsFaultTolerance.redisAddress="elsewhere:6379"'],
    "modelCache.existingClaim": ["modelCache.createClaim=false"],
    "podDisruptionBudget.minAvailable": ["workers.minReplicas=4"],
    "gpuGroups[].accelerator": [
        f'services[{i}].resources={{"num_gpus": 0.4, "gpu_memory": null, "accelerator": null}}' for i in (0, 1)
    ],
}


def generated(module: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, "--check"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("module", ["deploy.generate_schema", "deploy.generate_readme", "deploy.generate_dashboards"])
def test_generated_files_are_those_that_their_modules_give(module: str) -> None:
    done = generated(module)
    assert done.returncode == 0, done.stderr


def test_every_value_says_what_it_means() -> None:
    assert [path for path, row in ROWS.items() if len(row.meaning) < 5] == []


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}".lstrip("."))
    else:
        yield path


def test_the_readme_has_every_value_of_values_yaml() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    known = [path for path in ROWS if f"| `{path}` |" in readme] + ["gpuGroups"]
    missing = [
        leaf for leaf in leaves(values) if not any(leaf == path or leaf.startswith(f"{path}.") for path in known)
    ]
    assert missing == []


def value_at(values: Any, path: str, default: str) -> Any:
    """What a scenario gives; else what the README says of it."""
    for key in path.replace("[]", ".0").split("."):
        if isinstance(values, list):
            values = values[int(key)]
        elif key in values:
            values = values[key]
        else:
            return {"labels": {}, "nodeSelector": {}, "tolerations": []}.get(key, yaml.safe_load(default) or "")
    return values


def other(path: str, value: Any) -> Any:
    """Another value than this, of the same kind."""
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        number = re.match(r"[0-9]+", value)
        return f"{int(number[0]) + 1}{value[number.end() :]}" if number else "other"
    if isinstance(value, list):
        return [{"key": "other", "operator": "Exists"}]
    return {**value, "memory": "30Gi"} if "memory" in value else {**value, "key": "other"}


@pytest.mark.parametrize("path", ROWS)
def test_every_value_is_used(chart: Chart, path: str) -> None:
    base = next((values for prefix, values in BASES.items() if path.startswith(prefix)), HA)
    value = value_at(merged(base), path, ROWS[path].default)
    change = f"{path.replace('[]', '[0]')}={json.dumps(other(path, value))}"
    beside = BESIDE.get(path, [])
    assert chart.render(base, *beside, change) != chart.render(base, *beside)


def test_numbers_reach_the_fleet_as_they_are_written_and_null_as_the_default(chart: Chart) -> None:
    """Helm reads every number as a float64."""
    written = {"max_body": 2097152, "max_file": 10**12, "flush_ms": 0.5, "timeout_s": 900, "batch_concurrency": 4}
    changed = f"settings={json.dumps({**written, 'blob_url': None})}"
    env = chart.templates(MINIMAL, changed)["cpu"]["spec"]["containers"][0]["env"]
    given = {each["name"]: each.get("value") for each in env}
    assert {name: float(given[f"CASTALIA_{name.upper()}"] or "nan") for name in written} == written
    assert "CASTALIA_BLOB_URL" not in given
