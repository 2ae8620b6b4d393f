"""Owns the parts of the chart's values that describe Kubernetes objects. Descriptions here become its README."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from shared.config.base import ConfigModel

QUANTITY = r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$"
# Ray counts whole CPUs: KubeRay and the autoscaler round a fraction up, and would promise what is not there.
WHOLE = r"^[1-9][0-9]*$"
OBJECT_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
# A tag that moves under a running fleet. Patterns here cannot say what is not to be.
NOT_LATEST: JsonDict = {"not": {"const": "latest"}}
LABEL = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"


class ChartModel(ConfigModel):
    model_config = ConfigDict(alias_generator=to_camel)


class Image(ChartModel):
    """The image of every Ray pod. `digest` wins over `tag`; an empty tag is the chart's appVersion."""

    repository: str = Field(min_length=1, description="where the image is pulled from")
    tag: str = Field(default="", json_schema_extra=NOT_LATEST, description="empty: the chart's appVersion")
    digest: str = Field(default="", pattern="^(sha256:[0-9a-f]{64})?$", description="sha256:..., wins over the tag")
    pull_policy: str = Field(
        default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$", description="as Kubernetes has it"
    )
    pull_secrets: tuple[str, ...] = Field(default=(), description="names of Secrets that the registry asks for")


class PodResources(ChartModel):
    """Requests equal limits."""

    cpu: str = Field(pattern=QUANTITY)
    memory: str = Field(pattern=QUANTITY)


class RayResources(ChartModel):
    """Requests equal limits: Ray counts on what it is told that it has, in whole CPUs."""

    cpu: str = Field(pattern=WHOLE)
    memory: str = Field(pattern=QUANTITY)


class SecretEntry(ChartModel):
    """An entry of a Secret of the release's namespace. An empty name: none."""

    name: str = Field(default="", pattern=OBJECT_NAME)
    key: str = Field(default="", max_length=253)


class Placement(ChartModel):
    node_selector: dict[str, str] = Field(default_factory=dict, description="labels of the nodes to run on")
    tolerations: tuple[dict[str, Any], ...] = Field(default=(), description="taints to run beside")


class Head(Placement):
    """The pod that runs the cluster's controllers. It takes no replica."""

    resources: RayResources
    shm: str = Field(pattern=QUANTITY, description="bound of /dev/shm, which holds Ray's object store")


class Group(Placement):
    min_replicas: int = Field(ge=0, description="pods that are always there")
    max_replicas: int = Field(ge=0, description="pods at most, which only an autoscaler reaches")
    resources: RayResources
    shm: str = Field(pattern=QUANTITY, description="bound of /dev/shm, which holds Ray's object store")


class Workers(Group):
    """The group `cpu`: pods that run the gateway, and models that need no GPU."""

    min_replicas: int = Field(ge=1, description="pods that are always there")


class GpuGroup(Group):
    """Pods with devices of one type. A service's num_gpus and accelerator find them."""

    name: str = Field(
        pattern="^[a-z]([-a-z0-9]{0,20}[a-z0-9])?$",
        json_schema_extra={"not": {"const": "cpu"}},
        description="names the worker group",
    )
    accelerator: str = Field(
        pattern=LABEL,
        description="Ray's name of the device type, such as L4; becomes the label ray.io/accelerator-type",
    )
    gpus: int = Field(default=1, ge=1, description="devices in a pod")
    gpu_resource: str = Field(
        default="nvidia.com/gpu", pattern="^[a-z0-9.-]+/[a-z0-9.-]*gpu$", description="what the nodes call a device"
    )
    runtime_class_name: str = Field(default="", description="a container runtime that knows the devices")


class Autoscaler(ChartModel):
    """Ray's autoscaler (v2), which runs beside the head and adds and removes worker pods."""

    enabled: bool = Field(default=True, description="without it, each group keeps its `minReplicas`")
    idle_timeout_seconds: int = Field(
        default=60,
        ge=10,
        description="a pod with devices goes so long after its last replica; another after the longest stream besides",
    )
    resources: PodResources


class TopologySpread(ChartModel):
    """Whether worker pods keep apart."""

    enabled: bool = Field(default=True, description="spread worker pods evenly")
    topology_key: str = Field(
        default="kubernetes.io/hostname", min_length=1, description="the nodes' label to spread over"
    )
    when_unsatisfiable: str = Field(
        default="ScheduleAnyway", pattern="^(ScheduleAnyway|DoNotSchedule)$", description="a wish, or a condition"
    )


class ServiceAccount(ChartModel):
    """The workers' account, for a cloud's identities. It has no permission here, and its token is in no pod.

    The head's account is the operator's, with the one Role that the autoscaler needs; its token is in the autoscaler's
    container alone.
    """

    create: bool = Field(default=True, description="make it; else `name` is there already, or the default one serves")
    name: str = Field(default="", pattern=OBJECT_NAME, description="empty: the release's full name")
    annotations: dict[str, str] = Field(default_factory=dict, description="such as a cloud role's name")


class GatewayService(ChartModel):
    """The Service in front of every worker without devices whose /readyz answers 200."""

    type: str = Field(
        default="ClusterIP", pattern="^(ClusterIP|NodePort|LoadBalancer)$", description="as Kubernetes has it"
    )
    port: int = Field(default=80, ge=1, le=65535, description="the port that clients use within the cluster")
    annotations: dict[str, str] = Field(default_factory=dict, description="for a load balancer")


class Ingress(ChartModel):
    """TLS ends here: Ray Serve's own cannot be used with HAProxy."""

    enabled: bool = Field(default=False, description="make an Ingress")
    class_name: str = Field(default="", description="the controller; empty: the cluster's default")
    host: str = Field(default="", description="the name that clients use")
    tls_secret: str = Field(default="", pattern=OBJECT_NAME, description="name of the Secret of the certificate")
    annotations: dict[str, str] = Field(
        default_factory=dict, description="let the controller wait as long as settings.timeout_s, unbuffered"
    )


class HttpRoute(ChartModel):
    """The Gateway API's way in."""

    enabled: bool = Field(default=False, description="make an HTTPRoute")
    parent_refs: tuple[dict[str, Any], ...] = Field(default=(), description="the Gateways that it hangs on")
    hostnames: tuple[str, ...] = Field(default=(), description="the names that clients use")


class UpstreamSecret(ChartModel):
    """An entry of a Secret that a service of family upstream reads by its `secret_env`."""

    env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    secret: str = Field(min_length=1)
    key: str = Field(min_length=1)


class Gateway(ChartModel):
    """How clients get in, and which Secrets the gateway reads."""

    api_keys_secret: str = Field(
        description="name of a Secret whose entry `keys` holds hashed keys, one a line; empty: keys are the store's"
    )
    store_secret: str = Field(
        default="",
        description="name of a Secret whose entries `database-url`, `redis-url` (either may miss) lead to shared state",
    )
    upstream_secrets: tuple[UpstreamSecret, ...] = Field(
        default=(), description="`{env, secret, key}`: what services of family upstream read by their `secret_env`"
    )
    service: GatewayService
    ingress: Ingress
    http_route: HttpRoute


class PodDisruptionBudget(ChartModel):
    """Keeps a drain from taking the last gateways. Needs more `workers.minReplicas` than `minAvailable`."""

    enabled: bool = Field(default=False, description="make a PodDisruptionBudget of the group `cpu`")
    min_available: int = Field(default=1, ge=1, description="pods that a drain leaves")


class ModelCache(ChartModel):
    """Where fetched weights are kept. By default in each pod's own emptyDir, which dies with the pod."""

    size: str = Field(default="20Gi", pattern=QUANTITY, description="bound of a pod's folder, or size of the claim")
    existing_claim: str = Field(default="", description="a claim that all workers share (ReadWriteMany)")
    create_claim: bool = Field(default=False, description="make that claim, and keep it when the release goes")
    storage_class_name: str = Field(default="", description="of that claim; empty: the cluster's default")


class Weights(ChartModel):
    """A claim with weights that services name as file://<mountPath>/..., mounted read-only."""

    claim: str = Field(default="", pattern=OBJECT_NAME, description="name of the claim; empty: none")
    mount_path: str = Field(default="/models", pattern="^/[A-Za-z0-9._/-]+$", description="where workers see it")


class GcsFaultTolerance(ChartModel):
    """Keeps the cluster's state in Redis, so that it outlives its head."""

    enabled: bool = Field(default=False, description="with it, a head that is lost comes back to its cluster")
    redis_address: str = Field(default="", description="host:port; empty: the chart's own Redis")
    password_secret: SecretEntry = Field(description="the entry with that Redis' password; empty: that of `redis`")


class StateImage(ChartModel):
    """An image of the server's own makers."""

    repository: str = Field(min_length=1, description="where the image is pulled from")
    tag: str = Field(default="", json_schema_extra=NOT_LATEST, description="a version")
    digest: str = Field(default="", pattern="^(sha256:[0-9a-f]{64})?$", description="sha256:..., wins over the tag")


class StatefulServer(ChartModel):
    enabled: bool = Field(default=False, description="run one within the chart")
    image: StateImage
    password_secret: SecretEntry = Field(description="the entry with its password: letters and digits")
    resources: PodResources
    size: str = Field(pattern=QUANTITY, description="size of its disk")
    storage_class_name: str = Field(default="", description="of its disk; empty: the cluster's default")


class Redis(StatefulServer):
    """One small Redis for the state of the cluster and the limits of tenants. Bring your own where it must not fail."""


class Postgresql(StatefulServer):
    """One small PostgreSQL for the store (database, user: castalia). Bring your own where it must not fail."""


class NetworkPolicy(ChartModel):
    """Closes everything but the gateway. Ray's, HAProxy's and the replicas' own ports are among the pods alone."""

    enabled: bool = Field(default=True, description="make NetworkPolicies")
    gateway_from: tuple[dict[str, Any], ...] = Field(default=(), description="peers that reach the gateway; empty: all")
    operator: dict[str, Any] = Field(description="the peer that is the KubeRay operator")
    prometheus: dict[str, Any] = Field(description="the peer that scrapes")
    egress_https: bool = Field(default=True, description="workers reach port 443 anywhere: weights, remote servers")
    api_server: tuple[dict[str, Any], ...] = Field(
        default=(), description="where the autoscaler finds the API server; empty: ports 443 and 6443 anywhere"
    )
    extra_egress: tuple[dict[str, Any], ...] = Field(
        default=(), description="more egress rules of workers and head: an external PostgreSQL, Redis, a mirror"
    )


class Monitor(ChartModel):
    enabled: bool = Field(default=False, description="make a ScrapeConfig (the gateway), a PodMonitor (Ray, HAProxy)")
    interval: str = Field(default="30s", pattern="^[0-9]+(ms|s|m)$", description="between two scrapes")
    labels: dict[str, str] = Field(default_factory=dict, description="what your Prometheus selects by")


class Labelled(ChartModel):
    enabled: bool = Field(default=False, description="make it")
    labels: dict[str, str] = Field(default_factory=dict, description="what your Prometheus or Grafana selects by")


class Metrics(ChartModel):
    """Objects of the Prometheus operator, and Grafana dashboards."""

    key_secret: SecretEntry = Field(description="the entry with an operator's API key, which /metrics asks for")
    monitors: Monitor = Field(description="what Prometheus scrapes")
    rules: Labelled = Field(description="a PrometheusRule with recording rules and alerts")
    dashboard: Labelled = Field(description="a ConfigMap with dashboards, which Grafana's sidecar loads")
