"""Owns the step from models.yaml to Ray Serve applications: the only place that binds deployments.

Importing this module does not import Ray: Ray reads its environment when it is imported, and a local fleet sets that
environment after it has read this configuration. Annotations are evaluated here, unlike elsewhere: Ray Serve finds the
class of an application's arguments in its builder's annotation.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from services.sources.licences import LicenceRow, read_licences
from shared.config.base import ConfigModel
from shared.config.models import FleetConfig, HostedService
from shared.config.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application

GATEWAY_APP = "gateway"
# Ray's own limits hold requests back in order of arrival, which no tenant's share survives: so they never bind. The
# engines bound what waits, by predicted time; a tenant's own limits bound its floods.
GATEWAY_ONGOING = 65536
REPLICA_ONGOING = 65536
ROUTER_QUEUE = -1  # no limit: what waits there waits for a replica to start, and the gateway holds it for `hold_s`
GATEWAY_CPUS = 0.05
REQUEST_ROUTER = "services.affinity_router.AffinityRouter"
DRAIN_MARGIN_S = 30  # over the longest request
# How often replicas and gateways tell Ray's autoscaler what they hold, and over how long it averages that. Ray's own
# 10 and 30 make the first request for a service at rest wait twice as long.
SCALING_INTERVAL_S = 1
SCALING_WINDOW_S = 2
SCALING_POLICY = "services.scaling.ray_policy:PredictedWait"
ACCELERATOR_LABEL = "ray.io/accelerator-type"
HEALTH_PERIOD_S = 2
HEALTH_TIMEOUT_S = 30


class ModelArgs(ConfigModel):
    """Arguments of a model application. The name alone: arguments are part of an application's code version."""

    service: str


def load_fleet_config(path: Path) -> FleetConfig:
    """Read and check a models.yaml. Raises pydantic.ValidationError or yaml.YAMLError, which name the place."""
    return FleetConfig.model_validate(yaml.safe_load(path.read_text()))


def model_app(args: ModelArgs) -> "Application":
    """The application of one service; its models arrive as `user_config`."""
    from services.replica import Front, Replica  # noqa: PLC0415 - see the module's docstring

    return Front.bind(Replica.bind(args.service))


def gateway_app(_: dict[str, Any]) -> "Application":
    """The application that answers HTTP; its routes arrive as `user_config`."""
    from services.gateway.deployment import Gateway  # noqa: PLC0415 - see the module's docstring

    return Gateway.bind()


def serve_config(fleet: FleetConfig, settings: Settings) -> dict[str, Any]:
    """The fleet as Ray Serve's multi-application configuration (`ServeDeploySchema`, `serveConfigV2`).

    Byte sizes are written as integers; what models.yaml leaves out, `user_config` leaves out, but for the licence of a
    built-in model, which is that of LICENSES.md.
    """
    fleet = _licensed(fleet, read_licences())
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.host, "port": settings.port},
        "logging_config": {"encoding": "JSON", "log_level": settings.log_level, "enable_access_log": False},
        "applications": [
            *(_model_application(service, fleet, settings) for service in fleet.hosted),
            _gateway_application(fleet, settings),
        ],
    }


def _licensed(fleet: FleetConfig, licences: Mapping[str, LicenceRow]) -> FleetConfig:
    def service_with(service: HostedService) -> HostedService:
        found = {model.id: licences.get(model.weights.removeprefix("builtin://")) for model in service.models}
        models = tuple(
            model
            if (row := found[model.id]) is None or "license" in model.model_fields_set
            else model.model_copy(update={"license": row.weights})
            for model in service.models
        )
        return service.model_copy(update={"models": models})

    hosted = {service.name: service_with(service) for service in fleet.hosted}
    return fleet.model_copy(update={"services": tuple(hosted.get(each.name, each) for each in fleet.services)})


def _model_application(service: HostedService, fleet: FleetConfig, settings: Settings) -> dict[str, Any]:
    return {
        "name": service.name,
        "route_prefix": None,  # only the gateway is reachable by HTTP
        "import_path": "services.app:model_app",
        "args": {"service": service.name},
        "deployments": [
            {
                "name": "Replica",
                "user_config": _entry(service),
                "max_ongoing_requests": REPLICA_ONGOING,
                "max_queued_requests": ROUTER_QUEUE,
                "request_router_config": {"request_router_class": REQUEST_ROUTER},
                **_replicas(service),
                "max_surge_percent": service.replicas.surge_percent,
                "ray_actor_options": _actor_options(service, fleet),
                **_placement(service),
                **_lifecycle(settings),
            }
        ],
    }


def _gateway_application(fleet: FleetConfig, settings: Settings) -> dict[str, Any]:
    return {
        "name": GATEWAY_APP,
        "route_prefix": "/",
        "import_path": "services.app:gateway_app",
        "deployments": [
            {
                "name": "Gateway",
                "user_config": _gateway_config(fleet),
                "max_ongoing_requests": GATEWAY_ONGOING,
                "num_replicas": settings.gateway_replicas,
                **_replacing(settings),
                "ray_actor_options": {"num_cpus": GATEWAY_CPUS, **_off_devices(fleet)},
                **_lifecycle(settings),
            }
        ],
    }


def _replacing(settings: Settings) -> dict[str, Any]:
    """One gateway answers before the old one stops; of several on nodes of their own the others do meanwhile."""
    if settings.gateway_spread:
        return {"max_replicas_per_node": 1, "max_surge_percent": 0}
    return {"max_surge_percent": 100}


def _gateway_config(fleet: FleetConfig) -> dict[str, Any]:
    config: dict[str, Any] = {"services": [_entry(service) for service in fleet.services]}
    if fleet.routes:
        config["routes"] = [_entry(route) for route in fleet.routes]
    return config


def _replicas(service: HostedService) -> dict[str, Any]:
    count = service.replicas
    if count.min == count.max:
        return {"num_replicas": count.max}
    return {
        "autoscaling_config": {
            "min_replicas": count.min,
            "max_replicas": count.max,
            "target_ongoing_requests": count.target_ongoing,
            "metrics_interval_s": SCALING_INTERVAL_S,
            "look_back_period_s": SCALING_WINDOW_S,
            # Our policy keeps its own times; Ray would add these to them.
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "policy": {
                "policy_function": SCALING_POLICY,
                "policy_kwargs": count.targets,
            },
        }
    }


def _actor_options(service: HostedService, fleet: FleetConfig) -> dict[str, Any]:
    resources = service.resources
    options: dict[str, Any] = {
        "num_cpus": resources.num_cpus,
        "num_gpus": 0 if service.devices > 1 else resources.device_share,
        "memory": int(resources.memory),
    }
    if service.devices > 1:
        return options  # the replica goes where its devices are
    if resources.accelerator is not None:
        selector = {"label_selector": {ACCELERATOR_LABEL: resources.accelerator}}
        # The same again: without it Ray Serve imports the application on such a node, and starts one for that alone.
        return {**options, **selector, "fallback_strategy": [selector]}
    return {**options, **_off_devices(fleet)} if resources.device_share == 0 else options


def _placement(service: HostedService) -> dict[str, Any]:
    """The devices of a model that is spread over several, all on one machine: a bundle each, the replica in the first.

    The replica takes no device there: whoever computes does, in each bundle.
    """
    if service.devices == 1:
        return {}
    resources = service.resources
    first = {"CPU": resources.num_cpus, "memory": int(resources.memory), "GPU": 1}
    placed: dict[str, Any] = {
        "placement_group_bundles": [first, *({"GPU": 1} for _ in range(service.devices - 1))],
        "placement_group_strategy": "STRICT_PACK",
    }
    if resources.accelerator is not None:
        placed["placement_group_bundle_label_selector"] = [{ACCELERATOR_LABEL: resources.accelerator}]
    return placed


def _off_devices(fleet: FleetConfig) -> dict[str, Any]:
    """Keeps what needs no device off the nodes that have one: it would keep them from going when they are at rest."""
    devices = sorted({each.resources.accelerator for each in fleet.hosted if each.resources.accelerator is not None})
    return {"label_selector": {ACCELERATOR_LABEL: f"!in({', '.join(devices)})"}} if devices else {}


def _lifecycle(settings: Settings) -> dict[str, Any]:
    return {
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
        "graceful_shutdown_wait_loop_s": 1,
        "graceful_shutdown_timeout_s": math.ceil(settings.timeout_s) + DRAIN_MARGIN_S,
    }


def _entry(entry: ConfigModel) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_unset=True)
