"""What a plan may say, and what is said of one that says it wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from loadtests.planner.forms import Lengths, Seconds
from loadtests.planner.plan import PlanError, read_plan
from loadtests.planner.rates import Rates, Speeds
from loadtests.planner.traffic import Source, Traffic
from tests.unit.loadtests.planner.plans import a_load, a_service

EXAMPLES = Path(__file__).parents[4] / "loadtests" / "planner" / "examples"


def written(tmp_path: Path, **changes: Any) -> Path:
    service = a_service().model_dump(mode="json", exclude_unset=True) | changes
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"hours": 1, "services": [service]}))
    return path


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_plan(path: Path) -> None:
    plan = read_plan(path)
    assert all(Traffic(service.traffic, plan.seconds).peak() > 0 for service in plan.services)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": 40}, "services.0.start: Extra inputs are not permitted; got 40"),
        ({"start_s": "soon"}, "services.0.start_s: Value error, write seconds as a number"),
        ({"start_s": -1}, "services.0.start_s: Input should be greater than or equal to 0; got -1"),
        ({"replicas": {"min": 5, "max": 2}}, "replicas.min (5) is over replicas.max (2)"),
        ({"rates": "missing.json"}, "missing.json"),
        ({"rates": {"units_per_second": {}}}, "services.0.rates.units_per_second: Dictionary should have at least 1"),
        ({"prompt": 10}, "prompts have a length, but rates.prompt_units_per_second is not given"),
        ({"output": 0}, "there is nothing to do"),
        ({"output": {"mean": 10}}, "give a number, or {exponential: MEAN}"),
        ({"objectives": {}}, "give at least one of wait_s"),
        ({"traffic": []}, "services.0.traffic: List should have at least 1 item"),
        ({"traffic": [{"constant": 1, "points": [[0, 1]]}]}, "exactly one of constant, points"),
        ({"traffic": [{"points": [[10, 1], ["5s", 2]]}]}, "times must rise: 5 s comes after 10 s"),
        ({"traffic": [{"diurnal": {"low": 5, "high": 1}}]}, "low (5) is over high (1)"),
        ({"traffic": [{"arrivals": "missing.txt"}]}, "there is no file"),
        ({"resources": {"num_gpus": 1.5}}, "a replica takes a part of one device or whole ones; got 1.5"),
        ({"resources": {"num_gpus": 4}, "node": {"devices": 2}}, "a replica takes 4 devices, a node has 2"),
    ],
)
def test_a_plan_that_is_wrong_is_refused_with_the_place_and_the_reason(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(PlanError) as raised:
        read_plan(written(tmp_path, **changes))
    assert said in str(raised.value)
    assert "plan.yaml" in str(raised.value)


def test_two_services_of_one_name_are_refused(tmp_path: Path) -> None:
    service = a_service().model_dump(mode="json", exclude_unset=True)
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"services": [service, service]}))
    with pytest.raises(PlanError, match="more than once: chat"):
        read_plan(path)


def test_what_is_no_yaml_is_refused_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("services: [")
    with pytest.raises(PlanError, match=r"plan\.yaml"):
        read_plan(path)


def test_rates_may_stand_in_a_file_beside_the_plan(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(json.dumps({"model": "m", "units_per_second": {"1": 10, "4": 30}}))
    (service,) = read_plan(written(tmp_path, rates="rates.json")).services
    assert (service.rates.rows, service.rates.together(4)) == (4, 30)


@pytest.mark.parametrize(("text", "seconds"), [("90", None), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_seconds_may_have_a_unit(text: str, seconds: float | None) -> None:
    adapter = TypeAdapter(Seconds)
    if seconds is None:
        with pytest.raises(ValidationError):
            adapter.validate_python(text)
    else:
        assert adapter.validate_python(text) == seconds


@pytest.mark.parametrize(
    ("form", "quantiles"),
    [
        (100, {0.1: 100, 0.9: 100}),
        ({"low": 32, "high": 96}, {0.5: 64}),
        ({"exponential": 50}, {0.5: 34.7}),
        ({"mean": 200, "p95": 600}, {0.95: 600}),
        ({"mean": 200, "p50": 120}, {0.5: 120}),
        ({"p50": 100, "p99": 900}, {0.5: 100, 0.99: 900}),
        ({"mean": 200, "p95": 600, "most": 300}, {0.99: 300}),
        ({"exponential": 50, "most": 40}, {0.99: 40}),
        ({"low": 0, "high": 100, "most": 50}, {0.9: 50}),
    ],
)
def test_drawn_lengths_have_the_figures_that_were_asked_for(form: Any, quantiles: dict[float, float]) -> None:
    lengths = Lengths.model_validate(form)
    drawn = np.array(lengths.draw(np.random.default_rng(0), 200_000))
    assert drawn.mean() == pytest.approx(lengths.expected, rel=0.02)
    for share, value in quantiles.items():
        assert np.quantile(drawn, share) == pytest.approx(value, rel=0.03)
    if isinstance(form, dict) and "mean" in form and "most" not in form:
        assert lengths.expected == pytest.approx(form["mean"])


@pytest.mark.parametrize(
    "form", [{"mean": 100, "p95": 500}, {"mean": 100, "p95": 50}, {"p50": 9, "p95": 3}, {"mean": 0, "p95": 1}]
)
def test_figures_that_no_log_normal_distribution_has_are_refused(form: Any) -> None:
    with pytest.raises(ValidationError):
        Lengths.model_validate(form)


def test_speeds_between_the_measured_sizes_are_interpolated_and_none_is_over_the_largest() -> None:
    speeds = Speeds.of(Rates.model_validate({"units_per_second": {2: 20, 4: 30}, "places": 8}))
    assert [rows * each for rows, each in enumerate(speeds.row)] == pytest.approx([0, 10, 20, 25, 30, 30, 30, 30, 30])
    assert speeds.work[4:] == pytest.approx([1.0] * 5), "a full replica does a second of work in a second"


def test_a_replicas_capacity_counts_prompts_and_answers() -> None:
    rates = {"units_per_second": {1: 10, 10: 50}, "prompt_units_per_second": 1000}
    assert a_load(rates=rates, prompt=100, output=20).capacity == pytest.approx(1 / (100 / 1000 + 20 / 50))


def rates_of(seconds: int, *parts: Any) -> list[float]:
    sources = [Source.model_validate(part, context={"folder": "."}) for part in parts]
    return [float(rate) for rate in Traffic(sources, seconds).rates]


def test_the_parts_of_a_forecast_are_added_up() -> None:
    burst = {"burst": {"at": 2, "lasts": 1, "rate": 7, "every": 4}}
    assert rates_of(8, {"constant": 1}, burst, {"constant": 1, "times": 2}) == [3, 3, 10, 3, 3, 3, 10, 3]


def test_points_are_joined_by_lines_and_a_day_has_its_peak_where_it_should() -> None:
    assert rates_of(4, {"points": [[0, 0], [2, 20]]}) == pytest.approx([5, 15, 20, 20])
    day = rates_of(86400, {"diurnal": {"low": 10, "high": 30, "peak_at": "6h"}})
    assert (day.index(max(day)) // 3600, max(day)) == (pytest.approx(6, abs=1), pytest.approx(30))
    assert min(day) == pytest.approx(10, rel=1e-3)


def test_recorded_arrivals_come_as_they_were_recorded_and_others_at_random(tmp_path: Path) -> None:
    (tmp_path / "recorded.txt").write_text("3 0\n5")
    recorded = Source.model_validate({"arrivals": "recorded.txt"}, context={"folder": tmp_path})
    assert Traffic([recorded], 4).draw(np.random.default_rng(0)).tolist() == [3, 0, 5, 0]
    random = Traffic([Source(constant=100)], 1000).draw(np.random.default_rng(0))
    assert random.mean() == pytest.approx(100, rel=0.02)
    assert random.var() == pytest.approx(100, rel=0.15), "Poisson"


def test_a_csv_file_has_two_columns_and_says_which_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "forecast.csv"
    path.write_text("seconds,requests_per_second\n0,10\n10,20\n")
    source = Source.model_validate({"csv": "forecast.csv"}, context={"folder": tmp_path})
    assert Traffic([source], 5).rates[4] == pytest.approx(14.5)
    for text, said in (
        ("seconds,rate\n0,1\n", "no column requests_per_second"),
        ("seconds,requests_per_second\n0,-3\n", "-3"),
    ):
        path.write_text(text)
        with pytest.raises(ValidationError, match=said):
            Source.model_validate({"csv": "forecast.csv"}, context={"folder": tmp_path})


def test_the_peak_is_that_of_the_busiest_minute() -> None:
    source = Source.model_validate({"burst": {"at": 100, "lasts": 30, "rate": 60}})
    assert Traffic([source], 600).peak() == pytest.approx(30)
