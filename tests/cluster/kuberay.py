"""Owns the part of KubeRay's operator that these tests need: from a rendered RayService to pods, and their upkeep.

Commands and environments are those that KubeRay 1.7 gives a pod. Replicas are the autoscaler's to say, as in a real
cluster: Ray's own KubeRay autoscaler runs in the head's pod and patches the RayCluster.
"""

from __future__ import annotations

import itertools
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.api import NAMESPACE, ApiServer, ClusterResource
from tests.cluster.pods import GATEWAY, Network, Pod, PodSpec

GCS_PORT = 6379
DASHBOARD_PORT = 8265
RECONCILE_S = 0.25
CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a cluster stands on: this machine's files as its image, models, Secrets, and what its image would set."""

    folder: Path
    models: Path
    path: str  # PATH in the image
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    image_environment: Mapping[str, str] = field(default_factory=dict)


class Operator:
    """One RayCluster and its pods. `close` ends them all."""

    def __init__(self, ray_service: Mapping[str, Any], network: Network, around: Surroundings) -> None:
        self._service = ray_service
        self._network = network
        self._around = around
        self._token = secrets.token_hex(16)
        self._names = itertools.count(1)
        self._closed = threading.Event()
        self._lock = threading.RLock()
        self.pods: dict[str, Pod] = {}
        self.paused = False  # it replaces no pod meanwhile
        self.cluster = ClusterResource("castalia-cluster", ray_service["spec"]["rayClusterConfig"])
        self._api = ApiServer(GATEWAY, self.cluster, self._listed, around.folder)
        self.head_address = network.address()  # of the head's Service: the same, whichever pod is behind it
        self._thread = threading.Thread(target=self._upkeep, name="operator", daemon=True)
        self._thread.start()

    @property
    def head(self) -> Pod:
        return self.of_group("headgroup")[0]

    def of_group(self, group: str) -> list[Pod]:
        with self._lock:
            return [pod for pod in self.pods.values() if pod.spec.labels["ray.io/group"] == group and not pod.deleted]

    def deploy(self, config: Mapping[str, Any]) -> None:
        """As the operator hands serveConfigV2 over."""
        url = f"http://{self.head_address}:{DASHBOARD_PORT}/api/serve/applications/"
        httpx.put(url, json=config, headers=self.authorization, trust_env=False, timeout=120).raise_for_status()

    def statuses(self) -> dict[str, Any]:
        url = f"http://{self.head_address}:{DASHBOARD_PORT}/api/serve/applications/"
        answer = httpx.get(url, headers=self.authorization, trust_env=False, timeout=30)
        return answer.raise_for_status().json()["applications"]

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        for pod in list(self.pods.values()):
            pod.kill()
        self._api.close()

    def drain(self, pod: Pod) -> None:
        """As `kubectl drain` has it evicted: it gets its time to end, and another takes its place at once."""
        with self._lock:
            self._delete(pod)

    def _upkeep(self) -> None:
        while not self._closed.wait(RECONCILE_S):
            if not self.paused:
                with self._lock:
                    self._reconcile()

    def _reconcile(self) -> None:
        for name, pod in list(self.pods.items()):
            if not pod.running:
                pod.kill()
                del self.pods[name]
        if not self.of_group("headgroup"):
            self._create(self.cluster.object["spec"]["headGroupSpec"], "headgroup", is_head=True)
        is_up = _is_listening(self.head_address, GCS_PORT)
        for group in self.cluster.groups:
            name = group["groupName"]
            for doomed in group.get("scaleStrategy", {}).get("workersToDelete", []):
                if doomed in self.pods and not self.pods[doomed].deleted:
                    self._delete(self.pods[doomed])
            wanted = max(group["minReplicas"], min(group["maxReplicas"], group.get("replicas") or 0))
            # A worker's first container waits for the head.
            for _ in range(wanted - len(self.of_group(name)) if is_up else 0):
                self._create(group, name, is_head=False)

    def _delete(self, pod: Pod) -> None:
        pod.deleted = True
        threading.Thread(target=pod.stop, name=f"stop {pod.spec.name}", daemon=True).start()

    def _create(self, group: Mapping[str, Any], name: str, *, is_head: bool) -> None:
        spec = self._pod_spec(group, f"castalia-{name}-{next(self._names)}", name, is_head=is_head)
        address = self.head_address if is_head else self._network.address()
        models, logs = self._around.models, self._around.folder
        self.pods[spec.name] = Pod(spec, self._network, address=address, models=models, logs=logs)

    def _listed(self) -> list[dict[str, Any]]:
        """The pods as the API server lists them."""
        with self._lock:
            return [_as_object(pod) for pod in self.pods.values()]

    def _pod_spec(self, group: Mapping[str, Any], name: str, group_name: str, *, is_head: bool) -> PodSpec:
        template = group["template"]
        pod, metadata = template["spec"], template["metadata"]
        container = pod["containers"][0]
        scales = bool(self.cluster.object["spec"].get("enableInTreeAutoscaling"))
        environment = {
            **self._environment(container.get("env", ())),
            **self._ray_environment(name, group_name, is_head=is_head, scales=scales),
        }
        labels = {"ray.io/node-type": "head" if is_head else "worker", "ray.io/group": group_name}
        command = _start_command(group, container, self.head_address, is_head=is_head, scales=scales)
        files = self._secret_files(pod, container)
        sidecars: list[tuple[str, Mapping[str, str]]] = []
        if is_head and scales:
            files |= {f"{CREDENTIALS}/token": "unused", f"{CREDENTIALS}/ca.crt": self._api.certificate}
            sidecars.append((self._autoscaler_command(), environment | self._autoscaler_environment(name)))
        shm = next(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "shm")
        return PodSpec(
            name,
            labels={**metadata.get("labels", {}), **labels},
            command=command,
            environment=environment,
            sidecars=sidecars,
            files=files,
            shm=str(quantity(shm)),
            pre_stop=container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ()),
            grace_s=pod["terminationGracePeriodSeconds"],
            readiness=container.get("readinessProbe"),
        )

    def _environment(self, entries: Any) -> dict[str, str]:
        found = {"PATH": self._around.path, "LANG": "C.UTF-8", **self._around.image_environment}
        for entry in entries:
            if "value" in entry:
                found[entry["name"]] = entry["value"]
                continue
            reference = entry["valueFrom"]["secretKeyRef"]
            value = self._around.secrets.get((reference["name"], reference["key"]))
            if value is None and not reference.get("optional"):
                raise KeyError(f"{entry['name']} needs the Secret {reference['name']}, entry {reference['key']}")
            if value is not None:
                found[entry["name"]] = value
        return found

    def _ray_environment(self, name: str, group: str, *, is_head: bool, scales: bool) -> dict[str, str]:
        spec = self.cluster.object["spec"]
        found = {
            "RAY_CLUSTER_NAME": self.cluster.object["metadata"]["name"],
            "RAY_CLUSTER_NAMESPACE": NAMESPACE,
            "RAY_CLOUD_INSTANCE_ID": name,
            "RAY_NODE_TYPE_NAME": group,
            "RAY_PORT": str(GCS_PORT),
            "RAY_ADDRESS": f"{'127.0.0.1' if is_head else self.head_address}:{GCS_PORT}",
            "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
            "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
            "RAY_timeout_ms_task_wait_for_death_info": "0",
            "RAY_gcs_server_request_timeout_seconds": "5",
            "RAY_SERVE_KV_TIMEOUT_S": "5",
        }
        if spec.get("authOptions", {}).get("mode") == "token":
            found |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        if is_head and scales:
            found["RAY_enable_autoscaler_v2"] = "1"
        if tolerant := spec.get("gcsFaultToleranceOptions"):
            found |= self._fault_tolerance(tolerant, is_head=is_head)
        return found

    def _fault_tolerance(self, options: Mapping[str, Any], *, is_head: bool) -> dict[str, str]:
        if not is_head:
            return {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
        found = {
            "RAY_REDIS_ADDRESS": options["redisAddress"],
            "RAY_external_storage_namespace": options.get("externalStorageNamespace") or "uid-of-the-cluster",
        }
        if (password := options.get("redisPassword")) is not None:
            found |= self._environment([{"name": "REDIS_PASSWORD", **password}])
        return found

    def _secret_files(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
        """Mounted Secrets as files; every other volume is a folder that is made, empty."""
        mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", ())}
        found: dict[str, str] = {}
        for volume in pod.get("volumes", ()):
            path = mounts.get(volume["name"])
            if path is None or path in ("/tmp", "/dev/shm"):
                continue
            if "secret" not in volume:
                found[f"{path}/.volume"] = ""
                continue
            secret = volume["secret"]
            for item in secret.get("items", ()):
                found[f"{path}/{item['path']}"] = self._around.secrets[secret["secretName"], item["key"]]
        return found

    def _autoscaler_command(self) -> str:
        name = self.cluster.object["metadata"]["name"]
        once = f"ray kuberay-autoscaler --cluster-name {name} --cluster-namespace {NAMESPACE}"
        # It comes when the head is up, which it asks for by a process each time; once it ends it is started again.
        up = f"until (: </dev/tcp/127.0.0.1/{DASHBOARD_PORT}) 2>/dev/null; do sleep 1; done"
        return f"{up}; while true; do {once}; sleep 2; done"

    def _autoscaler_environment(self, pod: str) -> dict[str, str]:
        return {
            "KUBERNETES_SERVICE_HOST": GATEWAY,
            "KUBERNETES_SERVICE_PORT_HTTPS": str(self._api.port),
            "KUBERAY_CRD_VER": "v1",
            "RAY_HEAD_POD_NAME": pod,
        }


def _is_listening(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def _as_object(pod: Pod) -> dict[str, Any]:
    metadata = {"name": pod.spec.name, "labels": {**pod.spec.labels, "ray.io/cluster": "castalia-cluster"}}
    metadata["resourceVersion"] = "1"
    if pod.deleted:
        metadata["deletionTimestamp"] = "2000-01-01T00:00:00Z"
    status = {"podIP": pod.address, "containerStatuses": [{"name": "ray", "state": {"running": {}}}]}
    return {"metadata": metadata, "status": status, "spec": {"containers": [{"name": "ray"}]}}


def _start_command(
    group: Mapping[str, Any], container: Mapping[str, Any], head: str, *, is_head: bool, scales: bool
) -> str:
    limits = container.get("resources", {}).get("limits", {})
    options = {"num-cpus": str(int(quantity(limits["cpu"]))), "memory": str(quantity(limits["memory"]))}
    if gpus := limits.get("nvidia.com/gpu"):
        options["num-gpus"] = str(gpus)
    options |= {
        "metrics-export-port": "8080",
        "dashboard-agent-listen-port": "52365",
        **group.get("rayStartParams", {}),
    }
    if labels := group.get("labels"):
        options["labels"] = ",".join(f"{key}={value}" for key, value in labels.items())
    # Not KubeRay's: a raylet waits 15 s for a port that it is not told, and a busy machine takes longer.
    options |= {"runtime-env-agent-port": "52366", "dashboard-agent-grpc-port": "52367"}
    role = "--head" if is_head else f"--address={head}:{GCS_PORT}"
    more = " --no-monitor" if is_head and scales else ""
    words = " ".join(f"--{name}={value}" for name, value in options.items())
    return f"ulimit -n 65536; ray start {role} --block {words}{more}"


def quantity(text: str) -> int:
    """A Kubernetes quantity as a whole number; thousandths round up."""
    text = str(text)
    if text.endswith("m"):
        return -(-int(text[:-1]) // 1000)
    unit = next((unit for unit in UNITS if text.endswith(unit)), "")
    return int(float(text.removesuffix(unit)) * UNITS.get(unit, 1))


def wait_until(what: str, done: Any, *, within_s: float, every_s: float = 0.25) -> float:
    """Seconds until `done` is true. AssertionError, which says `what`, if it does not become so."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)
    return time.monotonic() - began
