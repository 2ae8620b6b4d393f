"""Owns the step from the chart's values to a running fleet: what Helm renders, with tiny models, on pods of ours."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from deploy.helm import run
from services.gateway.auth import new_key
from services.sources import write_manifest
from tests.checkpoints import make_checkpoint
from tests.cluster.gateway_service import GatewayService
from tests.cluster.kuberay import Operator, Surroundings, wait_until
from tests.cluster.paced import write_weights
from tests.cluster.pods import Network, Pod
from tests.image_checkpoints import image_checkpoint
from tests.shape_checkpoints import make_embedder

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart" / "castalia"
HTTP_PORT = 8000
# Ray gives way to others by niceness, and starts a worker for each CPU ahead of time: a machine of its own has both.
QUICKLY = {
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "false",
    "RAY_enable_worker_prestart": "false",
}
START_S = 1200.0  # a shared machine of two cores starts five nodes, and their processes import torch
# What stands for a model of the chart's: tiny, of random weights, on the volume that pods see at /models.
TINY = {("transformer", "decoder"): "tiny", ("transformer", "embedding"): "embedder", ("diffusion", ""): "emoji"}
KEPT = ("id", "kind", "max_batch_size", "license")
PACED_MODEL = {
    "source": "file:///models/paced",
    "sampler": "paced:PacedSampler",
    "tasks": ["image"],
    "row_cost": 1000,
    "max_batch_size": 1,
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """The chart's manifests, as Helm writes them."""

    manifests: tuple[dict[str, Any], ...]

    @property
    def ray_service(self) -> dict[str, Any]:
        return next(each for each in self.manifests if each["kind"] == "RayService")

    @property
    def gateway(self) -> dict[str, Any]:
        """The Service that leads to gateways."""
        return next(
            each
            for each in self.manifests
            if each["kind"] == "Service" and each["metadata"]["labels"].get("app.kubernetes.io/component") == "gateway"
        )

    @property
    def serve_config(self) -> dict[str, Any]:
        return yaml.safe_load(self.ray_service["spec"]["serveConfigV2"])


def render(*values: Path, sets: Mapping[str, Any]) -> Rendered:
    """`sets` are single values over those of the files, by Helm's paths: `services[0].replicas.max`."""
    helm = Path(os.environ["CASTALIA_TEST_HELM"])
    arguments = [item for path in values for item in ("--values", str(path))]
    arguments += [item for path, value in sets.items() for item in ("--set-json", f"{path}={json.dumps(value)}")]
    done = run(helm, "template", "test", str(CHART), *arguments)
    assert done.returncode == 0, done.stderr
    return Rendered(tuple(each for each in yaml.safe_load_all(done.stdout) if each))


def with_tiny_models(config: Mapping[str, Any], *, paced: Collection[str] = ()) -> dict[str, Any]:
    """The same applications with tiny models, which run on the CPU: of the same families, but for those services that
    are to take their time and not the machine's.
    """
    changed = copy.deepcopy(dict(config))
    entries = [
        deployment["user_config"] for each in changed["applications"] for deployment in each.get("deployments", ())
    ]
    for service in (service for entry in entries for service in entry.get("services", [entry])):
        if service["name"] in paced:
            service["family"] = "plugin"
            service["models"] = [PACED_MODEL | {"id": model["id"]} for model in service["models"]]
        elif service["family"] != "plugin":  # else it is ours already
            _shrink(service)
    return changed


def _shrink(service: dict[str, Any]) -> None:
    for model in service["models"]:
        default = "decoder" if service["family"] == "transformer" else ""
        name = TINY[service["family"], model.get("kind", default)]
        kept = {key: model[key] for key in KEPT if key in model}
        model.clear()
        model.update(kept | {"source": f"file:///models/{name}", "device": "cpu"})


def application(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An application's one deployment, to be changed."""
    found = next(each for each in config["applications"] if each["name"] == name)
    return found["deployments"][0]


def make_models(folder: Path) -> Path:
    """What a volume of models would hold: pods find it at /models."""
    make_checkpoint("llama", folder / "tiny", context=4096)
    make_embedder(folder / "embedder")
    image_checkpoint("emoji", folder / "emoji")
    write_weights(folder / "paced")
    for name in ("tiny", "embedder", "paced"):
        write_manifest(folder / name, source=f"file:///models/{name}")
    return folder


@dataclass(slots=True)
class ClusterFleet:
    """A running fleet, and ways to reach it."""

    operator: Operator
    service: GatewayService
    rendered: Rendered
    config: dict[str, Any]
    key: str

    @property
    def url(self) -> str:
        return self.service.url

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def client(self, timeout_s: float = 120, *, via: Pod | None = None) -> httpx.Client:
        """A connection for each request, as unlike clients would have: by the Service, or to one pod."""
        url = self.url if via is None else f"http://{via.address}:{HTTP_PORT}"
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=url, headers=self.headers, trust_env=False, timeout=timeout_s, limits=limits)

    def deploy(self, config: Mapping[str, Any]) -> None:
        self.config = copy.deepcopy(dict(config))
        self.operator.deploy(self.config)

    def replicas(self, application: str, deployment: str = "Replica") -> list[dict[str, Any]]:
        """The replicas that run, as Serve's controller tells."""
        found = self.operator.statuses()[application]["deployments"].get(deployment, {}).get("replicas", [])
        return [replica for replica in found if replica["state"] == "RUNNING"]

    def node_of(self, application: str) -> Pod:
        """Where its one replica runs."""
        (replica,) = self.replicas(application)
        return next(pod for pod in self.operator.pods.values() if pod.address == replica["node_ip"])

    def is_running(self) -> bool:
        """Whether every application is as it was asked for. AssertionError if one has failed."""
        try:
            applications = self.operator.statuses()
        except httpx.HTTPError:
            return False
        failed = {name: app["message"] for name, app in applications.items() if app["status"] == "DEPLOY_FAILED"}
        assert not failed, failed
        return set(applications) == self.names and all(app["status"] == "RUNNING" for app in applications.values())

    def wait_running(self, within_s: float = START_S) -> float:
        return wait_until("every application runs", self.is_running, within_s=within_s)

    @property
    def names(self) -> set[str]:
        return {application["name"] for application in self.config["applications"]}


@contextmanager
def running(
    rendered: Rendered,
    network: Network,
    folder: Path,
    models: Path,
    *,
    secrets: Mapping[tuple[str, str], str],
    paced: Collection[str] = (),
) -> Iterator[ClusterFleet]:
    """Pods, applications, and a gateway that answers; all ended afterwards."""
    key, line = new_key("tests")
    around = Surroundings(
        folder=folder,
        models=models,
        path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        secrets={("castalia-api-keys", "keys"): f"{line}\n", **secrets},
        image_environment={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", **QUICKLY},
    )
    operator = Operator(rendered.ray_service, network, around)
    spec = rendered.gateway["spec"]
    service = GatewayService(lambda: list(operator.pods.values()), spec["selector"], HTTP_PORT)
    fleet = ClusterFleet(operator, service, rendered, with_tiny_models(rendered.serve_config, paced=paced), key)
    try:
        wait_until("the head's dashboard answers", lambda: _answers(operator), within_s=START_S)
        fleet.deploy(fleet.config)
        fleet.wait_running()
        ways_in = len(operator.of_group("cpu"))
        wait_until("every way in is ready", lambda: len(service.ready) == ways_in, within_s=START_S)
        yield fleet
    finally:
        service.close()
        operator.close()


def _answers(operator: Operator) -> bool:
    try:
        operator.statuses()
    except httpx.HTTPError:
        return False
    return True
