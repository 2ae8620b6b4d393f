"""A policy scanner, checkov, over all that the chart renders. It has an environment of its own: it pins much."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import AIRGAPPED, GPU, HA, Chart, all_pods
from tests.deploy.test_pods import BUILT_IN, as_pod

CHECKOV = "checkov==3.3.30"
SKIPPED = {
    "CKV_K8S_43": "a digest is for whoever builds the image to name (image.digest), as the scenario airgapped does",
    "CKV_K8S_15": "images are pinned: pulling them anew at each start would only add a way to fail",
    "CKV_K8S_35": "Ray, Redis and PostgreSQL read passwords from the environment; the gateway's keys are a file",
    "CKV_K8S_40": "999 is the user that the images of Redis and PostgreSQL are made for",
    "CKV_K8S_8": "KubeRay adds liveness probes to Ray's pods; the connection test ends by itself",
    "CKV_K8S_9": "KubeRay adds the head's readiness probe; the connection test takes no traffic",
    "CKV2_K8S_6": "the connection test is a client, takes no traffic, and ends by itself",
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def scan(folder: Path, manifests: list[dict[str, Any]]) -> list[str]:
    """The checks that fail, with what they fail for."""
    (folder / "manifests.yaml").write_text(yaml.safe_dump_all(manifests))
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "tool", "run", "--no-config", "--from", CHECKOV, "checkov", "--file", "manifests.yaml"]
    options = ["--framework", "kubernetes", "--skip-download", "--quiet", "--output", "json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=folder, timeout=900, check=False)
    if not done.stdout.strip():
        pytest.skip(f"{CHECKOV} could not be had: {done.stderr.strip()[-400:]}")
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    failed = report["results"]["failed_checks"]
    return [f"{each['check_id']} {each['check_name']}: {each['resource']}" for each in failed]


def rendered(chart: Chart) -> list[dict[str, Any]]:
    """The objects of three scenarios, and every pod that KubeRay will make of them, each scenario in its namespace."""
    found: list[dict[str, Any]] = []
    for values in (AIRGAPPED, GPU, HA):
        manifests = chart.render(values)
        of_ray = [as_pod(name, pod) for name, pod in all_pods(manifests).items() if name in chart.templates(values)]
        for each in [*(m for m in manifests if BUILT_IN.match(m["apiVersion"])), *of_ray]:
            found.append({**each, "metadata": {**each["metadata"], "namespace": values.stem}})
    return found


def test_the_scanner_finds_nothing_but_what_has_a_reason(chart: Chart, tmp_path: Path) -> None:
    found = scan(tmp_path, rendered(chart))
    assert [each for each in found if each.split()[0] not in SKIPPED] == []
    assert {each.split()[0] for each in found} == SKIPPED.keys(), "a reason that is no longer needed goes"


def test_the_scanner_would_see_a_container_that_may_do_all(tmp_path: Path) -> None:
    spec = {"containers": [{"name": "c", "image": "c:1", "securityContext": {"privileged": True}}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}
    assert any("CKV_K8S_16" in each for each in scan(tmp_path, [pod]))
