"""The questions to Prometheus: those of the real dashboards, with every variable replaced as Grafana replaces it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import promql_parser
import pytest

from loadtests.observed.asking import USED, answers
from loadtests.observed.prometheus import Window, configuration, count_lines
from loadtests.observed.questions import (
    ALL,
    Dashboard,
    Target,
    UnknownVariable,
    Variable,
    chosen,
    dashboards,
    recorded,
    substitute,
)
from loadtests.observed.verdict import EMPTY, SOME, Answer, unknown
from tests.deploy.queries import selectors

OBSERVABILITY = Path(__file__).parents[4] / "deploy" / "observability"
WINDOW = Window(1000.0, 1300.0)
FLEET = Variable("fleet", "up{}", "job", is_one=False)
MODEL = Variable("model", 'ready{job=~"$fleet"}', "model", is_one=True)
TENANT = Variable("tenant", 'asked{job=~"$fleet"}', "tenant", is_one=False)


@dataclass
class FakeSource:
    """Has one line of every expression that is not in `empty`, and notes what it was asked."""

    empty: tuple[str, ...] = ()
    used: Mapping[str, list[str]] = field(default_factory=lambda: {"model": ["a", "b"], "tenant": ["t"], "service": []})
    asked: list[str] = field(default_factory=list[str])

    def lines(self, expr: str, window: Window) -> int:
        promql_parser.parse(expr)
        self.asked.append(expr)
        return int(expr not in self.empty)

    def label_values(self, label: str, series: str, window: Window) -> list[str]:
        promql_parser.parse(series)
        return {"job": ["castalia"], "model": ["a", "c"]}.get(label, [])

    def grouped(self, label: str, expr: str, at: float) -> list[str]:
        promql_parser.parse(expr)
        return self.used[label]


def test_variables_are_replaced_and_one_without_a_value_is_refused() -> None:
    text = 'rate(x{job=~"$fleet", model="${model}"}[$__rate_interval])'
    values = {"fleet": ALL, "model": "a.b"}
    assert substitute(text, values, window_s=20) == 'rate(x{job=~".*", model="a.b"}[20s])'
    with pytest.raises(UnknownVariable, match=r"\$model in"):
        substitute(text, {"fleet": ALL}, window_s=20)


def test_a_value_is_escaped_where_several_may_be_chosen_and_only_there() -> None:
    assert chosen(MODEL, "a.b") == "a.b"
    assert chosen(TENANT, "a.b|c") == r"a\\.b\\|c"
    (matcher,) = selectors(f'x{{tenant=~"{chosen(TENANT, "a.b")}"}}')[0].matchers.matchers
    assert matcher.value == r"a\.b"


def test_every_query_of_the_real_dashboards_is_promql_once_it_is_asked_and_has_a_name_of_its_own() -> None:
    boards = dashboards(OBSERVABILITY / "dashboards")
    source = FakeSource(used={"model": ["m"], "tenant": ["t"], "service": ["s"]})
    found = answers(source, boards, WINDOW)
    targets = [target.name for board in boards for target in board.targets]
    assert len(targets) > 60
    assert max(Counter(targets).values()) == 1
    assert {answer.target for answer in found} > set(targets)
    assert not any("$" in expression for expression in source.asked)


def test_what_may_have_no_data_is_named_as_the_dashboards_name_it() -> None:
    targets = [target.name for board in dashboards(OBSERVABILITY / "dashboards") for target in board.targets]
    assert unknown(targets) == []
    assert not set(EMPTY) & set(SOME)
    assert all({**EMPTY, **SOME}.values())


def test_every_value_that_was_used_is_asked_about_and_all_of_them_where_a_reader_finds_that_first() -> None:
    one = Dashboard("d", (FLEET, MODEL), (Target("d: x", 'x{job=~"$fleet", model="$model"}'),))
    many = Dashboard("e", (FLEET, TENANT), (Target("e: x", 'x{job=~"$fleet", tenant=~"$tenant"}'),))
    alone = Dashboard("f", (FLEET,), (Target("f: x", 'x{job=~"$fleet"}'),))
    source = FakeSource(empty=('x{job=~".*", model="b"}',))
    found = [answer for answer in answers(source, [one, many, alone], WINDOW) if "choice" not in answer.target]
    assert found == [
        Answer("d", "d: x", "a", 1),
        Answer("d", "d: x", "b", 0),
        Answer("e", "e: x", ALL, 1),
        Answer("e", "e: x", "t", 1),
        Answer("f", "f: x", ALL, 1),
    ]


def test_a_variable_has_choices_and_what_was_used_is_among_them() -> None:
    board = Dashboard("d", (FLEET, MODEL), ())
    found = answers(FakeSource(), [board], WINDOW)
    assert [(answer.target, answer.value, answer.lines) for answer in found] == [
        ("d: the choice of $fleet", ALL, 1),
        ("d: the choice of $model", ALL, 2),
        ("d: the choice of $model", "a", 1),
        ("d: the choice of $model", "b", 0),
    ]


def test_what_was_used_is_known_of_every_variable_but_the_fleets() -> None:
    about = {board.variables[-1].label for board in dashboards(OBSERVABILITY / "dashboards")}
    assert about - {"job"} == set(USED)


def test_a_line_has_a_number() -> None:
    def line(*values: str) -> dict[str, list[tuple[float, str]]]:
        return {"values": [(1.0, value) for value in values]}

    assert count_lines([line("NaN", "+Inf"), line("NaN", "0"), line("1.5")]) == 2
    assert count_lines([]) == 0
    assert math.isnan(float("NaN")), "as Prometheus writes it"


def test_recording_rules_are_all_named() -> None:
    names = recorded(OBSERVABILITY / "rules" / "recording.yaml")
    assert len(names) == len(set(names)) > 10
    assert all(name.startswith("castalia:") for name in names)


def test_prometheus_is_configured_as_the_operators_are_told(tmp_path: Path) -> None:
    made = configuration("127.0.0.1:1", tmp_path / "key", [Path("recording.yaml")])
    (scrape,) = made["scrape_configs"]
    readme = (OBSERVABILITY / "README.md").read_text()
    assert f"job_name: {scrape['job_name']} " in readme
    assert "authorization: {credentials_file:" in readme
    assert scrape["authorization"] == {"credentials_file": str(tmp_path / "key")}
