"""The chart's objects for Prometheus and Grafana: what is scraped, and the release's own rules and dashboards."""

from __future__ import annotations

import json

from deploy.dashboards import DASHBOARDS
from tests.deploy.chart import HA, Chart, of_kind
from tests.deploy.queries import SCRAPED, dashboards, rules, selectors


def test_rules_and_alerts_are_those_of_the_tree_for_the_releases_own_series(chart: Chart) -> None:
    (found,) = of_kind(chart.render(HA), "PrometheusRule")
    rendered = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
    ours = 'job="test-castalia", namespace="default"'
    by_name = {rule.get("alert", rule.get("record")): rule for rule in rendered}
    wanted = [*rules("recording.yaml"), *rules("alerts.yaml")]
    assert len(rendered) == len(wanted)
    for rule in wanted:
        there = by_name[rule.get("alert", rule.get("record"))]
        assert there["expr"] == rule["expr"].replace('job="castalia"', ours)
        assert there["expr"].count(ours) == len(selectors(rule["expr"]))
        assert there["labels"] == {**rule["labels"], "job": "test-castalia", "namespace": "default"}
        assert {**there, "expr": "", "labels": {}} == {**rule, "expr": "", "labels": {}}


def test_the_dashboards_are_what_grafana_loads(chart: Chart) -> None:
    config_map = next(
        each for each in of_kind(chart.render(HA), "ConfigMap") if "dashboard" in each["metadata"]["name"]
    )
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config_map["data"].keys() == {f"castalia-{each.name}.json" for each in DASHBOARDS}
    for name, whole in dashboards().items():
        assert json.loads(config_map["data"][f"castalia-{name}.json"]) == whole


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
