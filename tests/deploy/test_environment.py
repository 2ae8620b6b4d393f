"""What the pods' environment tells the fleet: the same switches as a local fleet has, and Secrets for workers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.fleet.environment import Ports, ray_environment
from shared.config.settings import Settings
from tests.deploy.chart import MINIMAL, MIXED, Chart, merged, scenarios

# What one machine needs and a pod does not: its own files, ports and threads, and what the operator sets.
LOCAL_ONLY = frozenset(
    {
        "PYTHONPATH",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
        "RAY_SERVE_HAPROXY_BINARY_PATH",
        "RAY_SERVE_HAPROXY_METRICS_PORT",
        "RAY_SERVE_HAPROXY_STATS_PORT",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED",
        "RAY_SERVE_HAPROXY_NBTHREAD",
        "RAY_SERVE_HAPROXY_MAXCONN",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC",
        "RAY_SERVE_HAPROXY_SOCKET_PATH",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT",
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S",
    }
)


def settings_of(template: dict[str, Any]) -> dict[str, str | None]:
    """What the pod's environment says of the settings, by their names; None: a Secret says it."""
    return {
        variable["name"].removeprefix("CASTALIA_").lower(): variable.get("value")
        for variable in template["spec"]["containers"][0]["env"]
        if variable["name"].startswith("CASTALIA_")
    }


@scenarios
def test_ray_has_the_same_switches_as_in_a_local_fleet(chart: Chart, values: Path, tmp_path: Path) -> None:
    settings = Settings.model_validate(merged(values)["settings"])
    local = ray_environment(settings, Ports(gateway=8000, block=20000), tmp_path)
    shared = {name: value for name, value in local.items() if name not in LOCAL_ONLY}
    for name, template in chart.templates(values).items():
        given = {variable["name"]: variable.get("value") for variable in template["spec"]["containers"][0]["env"]}
        assert {key: given.get(key) for key in shared} == shared, name


def test_secrets_come_to_workers_alone(chart: Chart) -> None:
    found = {
        name: {
            variable["name"]: variable["valueFrom"]["secretKeyRef"]
            for variable in template["spec"]["containers"][0]["env"]
            if "valueFrom" in variable
        }
        for name, template in chart.templates(MIXED).items()
    }
    references = {
        "OPENAI_API_KEY": {"name": "openai", "key": "api-key"},
        "CASTALIA_DATABASE_URL": {"name": "store", "key": "database-url", "optional": True},
        "CASTALIA_REDIS_URL": {"name": "store", "key": "redis-url", "optional": True},
    }
    assert found == {"head": {}, "cpu": references, "gpu": references}


def test_with_a_store_a_file_of_keys_may_be_done_without(chart: Chart) -> None:
    changed = 'gateway={"apiKeysSecret": "", "storeSecret": "store"}'
    for name, template in chart.templates(MINIMAL, changed).items():
        assert "api-keys" not in json.dumps(template), name
        assert not settings_of(template).get("api_keys_file"), name


def test_a_remote_server_is_no_application_but_the_gateway_hears_of_it(chart: Chart) -> None:
    applications = {app["name"]: app for app in chart.serve_config(MIXED)["applications"]}
    assert set(applications) == {"small", "large", "gateway"}
    told = applications["gateway"]["deployments"][0]["user_config"]["services"]
    assert [entry["name"] for entry in told] == ["small", "large", "openai"]


def test_the_fleet_accepts_its_environment(chart: Chart) -> None:
    """Every CASTALIA_ variable of a pod is a setting, and takes the value that the chart writes."""
    given = settings_of(chart.templates(MIXED)["cpu"])
    assert given.keys() <= Settings.model_fields.keys()
    settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
    assert (settings.timeout_s, settings.haproxy, settings.max_body) == (900, False, 8 * 2**20)
