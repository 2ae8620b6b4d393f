"""serveConfigV2: the same as the local fleet's, and made of keys that Ray Serve knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from services.app import serve_config
from services.serve_schema import deploy_schema, faults, unknown_keys
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from tests.deploy.chart import Chart, merged, scenarios


@pytest.fixture(scope="module")
def schema() -> type[BaseModel]:
    return deploy_schema()


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
def test_ray_serve_knows_every_key(chart: Chart, values: Path) -> None:
    assert faults(chart.serve_config(values)) == []


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
