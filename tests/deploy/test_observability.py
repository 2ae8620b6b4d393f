"""Dashboards, rules and alerts ask for figures that the gateway really shows, by labels that these really carry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.generate_dashboards import CHART_FILES, files
from tests.deploy.queries import (
    DASHBOARDS,
    RULES,
    SCRAPED,
    Series,
    dashboards,
    panel_queries,
    recorded,
    rules,
    selectors,
    unknown,
)
from tests.exported_metrics import exported, exported_series

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(scope="module")
def shown() -> Series:
    """What `/metrics` shows, and what recording rules make of it."""
    return {**exported_series(), **recorded()}


def test_rules_ask_for_what_the_gateway_shows(shown: Series) -> None:
    for rule in rules("recording.yaml"):
        assert unknown(rule["expr"], exported_series()) == [], rule["record"]
    for rule in rules("alerts.yaml"):
        assert unknown(rule["expr"], shown) == [], rule["alert"]


def test_dashboards_ask_for_what_the_gateway_and_the_rules_show(shown: Series) -> None:
    asked = list(panel_queries())
    assert len(asked) > 60
    for expression in asked:
        assert unknown(expression, shown) == [], expression


def test_every_metric_is_in_a_dashboard() -> None:
    """What nobody can see need not be counted."""
    asked = {each.name for expression in panel_queries() for each in selectors(expression)}
    asked |= {each.name for rule in rules("recording.yaml") for each in selectors(rule["expr"])}
    missing = [each.name for each in exported() if not asked & {each.name, f"{each.name}_bucket", f"{each.name}_sum"}]
    assert missing == []


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum(castalia_request_total{job="a"})', ["castalia_request_total"]),
        ('castalia_waiting_rows{modle="a"}', ["castalia_waiting_rows{modle}"]),
        ('sum by (tenant) (castalia_waiting_rows{model="a"})', ["tenant"]),
        ('castalia:cache_hit:ratio_rate5m{service="a"}', ["castalia:cache_hit:ratio_rate5m{service}"]),
        ("castalia:cache_hit:ratio", ["castalia:cache_hit:ratio"]),
    ],
)
def test_the_check_would_see_a_wrong_name(shown: Series, expression: str, found: list[str]) -> None:
    assert unknown(expression, shown) == found


def test_dashboard_variables_come_from_series_that_there_are(shown: Series) -> None:
    for dashboard in dashboards().values():
        queries = [each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
        assert queries
        for query in queries:
            match = re.fullmatch(r"label_values\((\w+)\{.*\}, (\w+)\)", query)
            assert match is not None, query
            assert match[2] in shown[match[1]] | SCRAPED


def test_dashboards_and_the_charts_copies_are_those_that_the_module_makes() -> None:
    wanted = files()
    assert {path: path.read_text() for path in wanted} == wanted
    there = {*DASHBOARDS.iterdir(), *(CHART_FILES / "dashboards").iterdir(), *(CHART_FILES / "rules").iterdir()}
    assert there == set(wanted), "nothing is left of what is made no more"


def test_every_dashboard_has_an_address_of_its_own() -> None:
    found = [dashboard["uid"] for dashboard in dashboards().values()]
    assert sorted(found) == ["castalia-capacity", "castalia-model", "castalia-overview", "castalia-tenants"]


def test_each_alert_says_how_grave_it_is_and_names_only_labels_that_it_has() -> None:
    for rule in rules("alerts.yaml"):
        assert rule["labels"]["severity"] in {"warning", "critical"}
        templated = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
        assert all(re.search(rf"\b(by|on) \([^)]*\b{label}\b", rule["expr"]) for label in templated), rule["alert"]


def test_every_series_of_rules_and_alerts_is_of_one_job() -> None:
    """The chart puts its release in the place of these words, so that two releases do not mix."""
    for rule in (*rules("recording.yaml"), *rules("alerts.yaml")):
        assert rule["labels"]["job"] == "castalia"
        assert rule["expr"].count('job="castalia"') == len(selectors(rule["expr"]))


def test_the_operators_handbook_says_what_to_do_about_each_alert() -> None:
    documented = re.findall(r"^\| `(Castalia\w+)` \|", OPERATIONS.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(rule["alert"] for rule in rules("alerts.yaml"))


def test_promtool_is_asked_for_both_outcomes_of_what_it_tests() -> None:
    """tests/services runs them, by promtool."""
    text = (RULES / "tests.yaml").read_text()
    for rule in rules("alerts.yaml"):
        assert f"alertname: {rule['alert']}\n" in text, f"{rule['alert']} is not seen to ring"
    for rule in rules("recording.yaml"):
        stem = rule["record"].rpartition("rate")[0] or rule["record"]
        assert stem in text or any(stem in other["expr"] for other in rules("alerts.yaml")), rule["record"]
