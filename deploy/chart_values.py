"""Owns the shape of the chart's values: the fleet's own configuration classes, and what a pod needs around them."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from shared.config.base import ConfigModel
from shared.config.models import FleetConfig
from shared.config.settings import Settings

QUANTITY = r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$"
# Where a process listens, what it caches and which secrets it reads is the pod's shape, which the chart draws itself.
CHART_OWNED_SETTINGS = frozenset({"home", "host", "port", "api_keys_file", "database_url", "redis_url"})


class ChartModel(ConfigModel):
    model_config = ConfigDict(alias_generator=to_camel)


class Image(ChartModel):
    """`digest` wins over `tag`; an empty tag is the chart's appVersion."""

    repository: str = Field(min_length=1)
    tag: str = ""
    digest: str = Field(default="", pattern="^(sha256:[0-9a-f]{64})?$")
    pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")
    pull_secrets: tuple[str, ...] = ()


class PodResources(ChartModel):
    """Requests equal limits: Ray counts on what it is told that it has."""

    cpu: str = Field(pattern=QUANTITY)
    memory: str = Field(pattern=QUANTITY)


class Placement(ChartModel):
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()


class Head(Placement):
    """The pod that runs the cluster's controllers. It takes no replica."""

    resources: PodResources
    shm: str = Field(pattern=QUANTITY)


class Workers(Placement):
    """Pods that run the gateway and the models. `shm` bounds /dev/shm, which holds Ray's object store."""

    replicas: int = Field(ge=1)
    resources: PodResources
    shm: str = Field(pattern=QUANTITY)
    cache: str = Field(pattern=QUANTITY, description="bound of the folder of fetched weights")


class GpuWorkers(Workers):
    """Rendered when a service asks for num_gpus. `gpus` is the number of devices in a pod."""

    gpus: int = Field(ge=1)


class GatewayService(ChartModel):
    type: str = Field(default="ClusterIP", pattern="^(ClusterIP|NodePort|LoadBalancer)$")
    port: int = Field(default=80, ge=1, le=65535)
    annotations: dict[str, str] = Field(default_factory=dict)


class UpstreamSecret(ChartModel):
    """An entry of a Secret that a service of family upstream reads by its `secret_env`."""

    env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    secret: str = Field(min_length=1)
    key: str = Field(min_length=1)


class Gateway(ChartModel):
    """`apiKeysSecret` names a Secret whose `keys` entry holds hashed keys, one a line; empty: keys are the store's.

    `storeSecret` names one with the entries `database-url` and `redis-url`, of which either may be missing.
    """

    api_keys_secret: str
    store_secret: str = ""
    upstream_secrets: tuple[UpstreamSecret, ...] = ()
    service: GatewayService


ChartSettings: type[ConfigModel] = create_model(
    "ChartSettings",
    __base__=ConfigModel,
    __doc__="Process settings, by the names that `shared.config.settings.Settings` gives them.",
    **{
        name: (field.annotation, field)
        for name, field in Settings.model_fields.items()
        if name not in CHART_OWNED_SETTINGS
    },  # type: ignore[call-overload]
)


class ChartValues(ChartModel, FleetConfig):
    """Everything that values.yaml may hold."""

    name_override: str = ""
    fullname_override: str = ""
    image: Image
    settings: ChartSettings  # type: ignore[valid-type]
    gateway: Gateway
    head: Head
    workers: Workers
    gpu_workers: GpuWorkers
    ray_auth: bool = Field(default=True, description="a token, made by the operator, guards Ray's own ports")
    global_: dict[str, Any] = Field(default={}, alias="global", description="set by Helm on subcharts; not read")
