"""Owns the shape of the chart's values: the fleet's own configuration, and what Kubernetes needs around it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model

from deploy.chart_parts import (
    Autoscaler,
    ChartModel,
    Gateway,
    GcsFaultTolerance,
    GpuGroup,
    Head,
    Image,
    Metrics,
    ModelCache,
    NetworkPolicy,
    PodDisruptionBudget,
    Postgresql,
    Redis,
    ServiceAccount,
    TopologySpread,
    Weights,
    Workers,
)
from shared.config.base import ConfigModel
from shared.config.models import FleetConfig
from shared.config.settings import Settings

# Where a process listens, what it caches and which secrets it reads is the pod's shape, which the chart draws itself.
CHART_OWNED_SETTINGS = frozenset({"home", "host", "port", "api_keys_file", "database_url", "redis_url"})

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

    name_override: str = Field(default="", max_length=40, description="stands for `castalia` in names and labels")
    fullname_override: str = Field(
        default="", max_length=47, pattern="^([a-z]([-a-z0-9]*[a-z0-9])?)?$", description="the name of every object"
    )
    image: Image
    settings: ChartSettings  # type: ignore[valid-type]
    gateway: Gateway
    ray_auth: bool = Field(default=True, description="a token, made by the operator, guards Ray's own ports")
    service_account: ServiceAccount
    head: Head
    workers: Workers
    gpu_groups: tuple[GpuGroup, ...] = Field(
        default=(), description="one group of GPU pods for each type of device; each grows from `minReplicas`"
    )
    autoscaler: Autoscaler
    topology_spread: TopologySpread
    pod_disruption_budget: PodDisruptionBudget
    model_cache: ModelCache
    weights: Weights
    gcs_fault_tolerance: GcsFaultTolerance
    redis: Redis
    postgresql: Postgresql
    network_policy: NetworkPolicy
    metrics: Metrics
    extra_objects: tuple[dict[str, Any], ...] = Field(
        default=(), description="manifests of your own; strings in them are templates"
    )
    global_: dict[str, Any] = Field(default={}, alias="global", description="set by Helm on subcharts; not read")
