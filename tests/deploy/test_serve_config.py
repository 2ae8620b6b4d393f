"""serveConfigV2: the same as the local fleet's, and made of keys that Ray Serve knows."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from services.app import serve_config
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from tests.deploy.chart import SCENARIOS, Chart, merged


@pytest.fixture(scope="module")
def schema() -> type[BaseModel]:
    """Ray Serve's own class. Importing Ray warns of its own deprecated calls, which are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.serve.schema import ServeDeploySchema
    return ServeDeploySchema


scenarios = pytest.mark.parametrize("values", SCENARIOS.values(), ids=SCENARIOS.keys())


def unknown_keys(config: Any, annotation: Any, path: str = "") -> list[str]:
    """Keys of `config`, at any depth, that the pydantic class does not have: Ray Serve drops those in silence."""
    model = model_of(annotation)
    if isinstance(config, list):
        inner = next(iter(get_args(optional(annotation))), Any)
        return [key for i, item in enumerate(config) for key in unknown_keys(item, inner, f"{path}[{i}]")]
    if not isinstance(config, dict) or model is None:
        return []
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    found: list[str] = []
    for key, value in config.items():
        here = f"{path}.{key}".lstrip(".")
        found += unknown_keys(value, fields[key], here) if key in fields else [here]
    return found


def optional(annotation: Any) -> Any:
    """The annotation without `None` and without the plain dict that Ray Serve takes in a class's place."""
    if get_origin(annotation) in {Union, type(int | str)}:
        kept = [arg for arg in get_args(annotation) if arg is not type(None) and arg is not dict]
        plain = [arg for arg in kept if get_origin(arg) is not dict and getattr(arg, "__name__", "") != "Dict"]
        return plain[0] if plain else Any
    return annotation


def model_of(annotation: Any) -> type[BaseModel] | None:
    inner = optional(annotation)
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def read_by_the_fleet(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with every user_config as the replicas and the gateway read it: byte sizes are integers."""
    applications = []
    for application in config["applications"]:
        (deployment,) = application["deployments"]
        user_config = deployment["user_config"]
        fleet = user_config if "services" in user_config else {"services": [user_config]}
        read = FleetConfig.model_validate(fleet).model_dump(mode="json", exclude_unset=True)
        applications.append({**application, "deployments": [{**deployment, "user_config": read}]})
    return {**config, "applications": applications}


@scenarios
def test_the_chart_deploys_what_the_local_fleet_deploys(chart: Chart, values: Path) -> None:
    given = merged(values)
    settings = Settings.model_validate({**given["settings"], "host": "0.0.0.0", "port": 8000})
    entries = {key: given[key] for key in ("services", "routes")}
    expected = serve_config(FleetConfig.model_validate(entries), settings)
    assert read_by_the_fleet(chart.serve_config(values)) == read_by_the_fleet(expected)


@scenarios
def test_ray_serve_knows_every_key(chart: Chart, schema: type[BaseModel], values: Path) -> None:
    config = chart.serve_config(values)
    schema.model_validate(config)
    assert unknown_keys(config, schema) == []


@pytest.mark.parametrize(
    ("typo", "found"),
    [
        ({"proxy_locatio": "EveryNode"}, "proxy_locatio"),
        ({"http_options": {"prot": 1}}, "http_options.prot"),
        ({"logging_config": {"encodin": "JSON"}}, "logging_config.encodin"),
        ({"applications": [{"route": "/"}]}, "applications[0].route"),
        ({"applications": [{"deployments": [{"replicas": 1}]}]}, "applications[0].deployments[0].replicas"),
        (
            {"applications": [{"deployments": [{"ray_actor_options": {"num_gpu": 1}}]}]},
            "applications[0].deployments[0].ray_actor_options.num_gpu",
        ),
        (
            {"applications": [{"deployments": [{"autoscaling_config": {"min_replica": 1}}]}]},
            "applications[0].deployments[0].autoscaling_config.min_replica",
        ),
    ],
)
def test_the_check_would_see_a_typo_at_any_depth(schema: type[BaseModel], typo: dict[str, Any], found: str) -> None:
    assert unknown_keys(typo, schema) == [found]
