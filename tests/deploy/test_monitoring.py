"""Alerts, dashboard and scrapes ask for figures that the gateway really shows, by labels that they really carry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.limits.metrics import LimitMetrics
from services.gateway.metrics import GatewayMetrics
from services.gateway.record import Record
from shared.prediction import Pace, Share, Waiting
from shared.reports import Histogram, ModelReport, ReplicaReport
from tests.deploy.chart import CHART, HA, Chart, of_kind

SCRAPED = {"job", "namespace"}  # what the ScrapeConfig adds to every series
GRAFANA = {"$fleet": "fleet", "$model": "model", "$__rate_interval": "5m"}
Series = Mapping[str, frozenset[str]]


@pytest.fixture(scope="module")
def shown() -> Series:
    """Every series of a gateway that has something to say of each, by name, with its labels."""
    histogram = Histogram((1.0,), (1, 0), 1.0)
    model = ModelReport(
        "m", "ready", "r", {}, 1, 1, 1.0, 1, 1, 1, 1.0, {"error": 1}, histogram, histogram, histogram, 1.0,
        (Waiting(Share(0, "t", 1.0), 1.0),), Pace(1.0, 1.0, 1.0),
    )  # fmt: skip
    metrics = GatewayMetrics()
    limits = LimitMetrics(metrics.registry)
    limits.refused("t", "requests")
    limits.shared(True)
    metrics.mirrored.labels("m", "ok").inc()
    record = Record("id", "POST", "/", 0.0, model="m", status=200, prompt_tokens=1, completion_tokens=1, units=1.0)
    record.first_chunk_s, record.cut = 1.0, True
    metrics.observe(record, route="/", seconds=1.0)
    text = metrics.render([ReplicaReport("s", "r", (model,))]).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: frozenset(sample.labels) for sample in samples}


def questions(chart: Chart) -> Iterator[str]:
    """Every expression of alerts and dashboard."""
    (rules,) = of_kind(chart.render(HA), "PrometheusRule")
    yield from (rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"])
    for panel in json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in GRAFANA.items():
                expression = expression.replace(variable, value)
            yield expression


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    for name, matchers in re.findall(r"\b(castalia_\w+)\{([^}]*)\}", expression):
        yield name, set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', "", matchers)))


def unknown(expression: str, shown: Series) -> list[str]:
    """What an expression asks for that no gateway shows."""
    found = [name for name in re.findall(r"\bcastalia_\w+", expression) if name not in shown]
    asked = list(selectors(expression))
    found += [
        f"{name}{{{label}}}" for name, labels in asked for label in labels - shown.get(name, frozenset()) - SCRAPED
    ]
    carried = set().union(*(shown.get(name, frozenset()) for name, _ in asked)) | SCRAPED
    grouped = {each.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for each in by.split(",")}
    return found + sorted(grouped - carried)


def test_alerts_and_dashboard_ask_for_what_the_gateway_shows(chart: Chart, shown: Series) -> None:
    asked = list(questions(chart))
    assert len(asked) > 20
    for expression in asked:
        promql_parser.parse(expression)
        assert unknown(expression, shown) == [], expression


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum(castalia_request_total{job="a"})', ["castalia_request_total"]),
        ('castalia_waiting_rows{modle="a"}', ["castalia_waiting_rows{modle}"]),
        ('sum by (tenant) (castalia_waiting_rows{model="a"})', ["tenant"]),
    ],
)
def test_the_check_would_see_a_wrong_name(shown: Series, expression: str, found: list[str]) -> None:
    assert unknown(expression, shown) == found


def test_each_alert_says_what_to_think_of_it_in_the_releases_own_series(chart: Chart) -> None:
    (rules,) = of_kind(chart.render(HA), "PrometheusRule")
    for rule in rules["spec"]["groups"][0]["rules"]:
        ours = re.findall(r'\{job="test-castalia", namespace="default"', rule["expr"])
        assert len(ours) == len(list(selectors(rule["expr"]))), rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        templated = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
        assert all(f"{label})" in rule["expr"] or f"({label}" in rule["expr"] for label in templated), rule["alert"]


def test_the_dashboards_file_is_what_grafana_loads(chart: Chart) -> None:
    config_map = next(
        each for each in of_kind(chart.render(HA), "ConfigMap") if "dashboard" in each["metadata"]["name"]
    )
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = config_map["data"].values()
    assert json.loads(text) == json.loads((CHART / "files" / "dashboard.json").read_text())


def test_the_gateway_is_scraped_once_with_an_operators_key(chart: Chart) -> None:
    """Each pod's HAProxy leads to every gateway: a target for each pod would count the replicas as often."""
    (scrape,) = of_kind(chart.render(HA), "ScrapeConfig")
    (static,) = scrape["spec"]["staticConfigs"]
    services = {s["metadata"]["name"]: s["spec"]["ports"][0]["port"] for s in of_kind(chart.render(HA), "Service")}
    assert static["targets"] == [f"test-castalia-gateway.default.svc:{services['test-castalia-gateway']}"]
    assert static["labels"].keys() == SCRAPED
    assert scrape["spec"]["authorization"]["credentials"] == {"name": "castalia-operator-key", "key": "key"}


def test_ray_and_haproxy_are_scraped_at_ports_that_pods_have(chart: Chart) -> None:
    (monitor,) = of_kind(chart.render(HA), "PodMonitor")
    worker = chart.templates(HA)["cpu"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in worker["ports"]}
    assert {ports[each["port"]] for each in monitor["spec"]["podMetricsEndpoints"]} == {8080, 9101}


def test_dashboard_variables_come_from_series_that_there_are(shown: Series) -> None:
    text = (CHART / "files" / "dashboard.json").read_text()
    found: list[dict[str, Any]] = yaml.safe_load(text)["templating"]["list"]
    queries = [variable["query"]["query"] for variable in found if variable["type"] == "query"]
    for name, label in (re.match(r"label_values\((\w+), (\w+)\)", query).groups() for query in queries):  # type: ignore[union-attr]
        assert label in shown[name] | SCRAPED
