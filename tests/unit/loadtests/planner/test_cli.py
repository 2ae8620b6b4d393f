"""The planner's commands: what they print and write, what they refuse, and that validation tells right from wrong."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from loadtests.planner import validate
from loadtests.planner.__main__ import main
from loadtests.planner.search import BUSIEST, replicas_for
from loadtests.summary import Counters, Distribution, Group, Summary
from tests.unit.loadtests.planner.plans import a_load, a_service, places
from tests.unit.loadtests.planner.test_queues import erlang_c


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    service = a_service(
        replicas={"min": 1, "max": 8},
        first_replicas=3,
        price_per_device_hour=2.0,
        traffic=[{"constant": 6}, {"burst": {"at": 200, "lasts": 60, "rate": 6}}],
    )
    path = tmp_path / "plan.yaml"
    path.write_text(
        yaml.safe_dump(
            {"name": "A plan", "hours": 0.2, "services": [service.model_dump(mode="json", exclude_unset=True)]}
        )
    )
    return path


def test_a_plan_becomes_a_table_a_report_charts_and_json(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = plan.parent / "out"
    assert main([str(plan), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "device-hours" in printed
    assert "Every one of the" in printed
    text = (out / "plan.md").read_text()
    found = json.loads((out / "plan.json").read_text())["services"]["chat"]
    figures = found["figures"]
    assert f"| device-hours | {figures['device_hours']:,.1f} |" in text
    assert figures["cost"] == pytest.approx(2 * figures["device_hours"])
    assert figures["device_hours"] == pytest.approx(sum(found["course"]["device_s"]) / 3600)
    assert figures["requests"] == pytest.approx(6 * 720 + 360, rel=0.05)
    assert found["fixed"]["found"]["replicas"] >= 3, "the busiest minute has 12/s, a full replica does 4"
    assert abs(found["difference"]["attainment"]) < 0.05
    for name in ("chat-replicas.svg", "chat-objectives.svg"):
        assert f"({name})" in text
        assert ElementTree.fromstring((out / name).read_text()).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_plan_without_a_price_has_no_cost_and_one_without_traffic_no_shares(plan: Path) -> None:
    raw = yaml.safe_load(plan.read_text())
    (service,) = raw["services"]
    del service["price_per_device_hour"]
    service["traffic"] = [{"constant": 0}]
    plan.write_text(yaml.safe_dump(raw))
    assert main([str(plan), "--out", str(plan.parent)]) == 0
    found = json.loads((plan.parent / "plan.json").read_text())["services"]["chat"]
    assert (found["figures"]["cost"], found["figures"]["attainment"], found["fixed"]) == (None, None, "nothing arrives")


def test_for_rate_says_how_many_replicas_are_enough(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(plan), "--for-rate", "400"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "chat" in line]
    replicas = int(line.split("│")[3])
    assert 400 / 4 / BUSIEST <= replicas < 1.3 * 400 / 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.yaml"], "missing.yaml"),
        (["{plan}", "--service", "other"], "no service 'other'; it has chat"),
    ],
)
def test_what_cannot_be_planned_is_said_on_stderr(
    plan: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([each.format(plan=plan) for each in arguments]) == 2
    assert said in capsys.readouterr().err


def test_an_objective_that_a_request_alone_does_not_keep_is_unreachable(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load(plan.read_text())
    raw["services"][0]["objectives"] = {"end_to_end_s": 1}
    plan.write_text(yaml.safe_dump(raw))
    assert main([str(plan), "--for-rate", "10"]) == 1
    assert "0.00% of the requests keep the objectives; 99.00% should" in " ".join(capsys.readouterr().err.split())


def waits_longer(busy: float, seconds: float) -> float:
    """The share of requests that do, with the less busy of two of many M/M/1 servers.

    Of them busy^(2^i - 1) have at least i requests, and a newcomer finds so many at both of its two servers with that
    share squared (Mitzenmacher, 2001). Then it waits for i memoryless requests (Erlang's distribution).
    """
    found = [busy ** (2 * (2**number - 1)) for number in range(12)]
    return sum(
        (found[number] - found[number + 1])
        * sum(math.exp(-seconds) * seconds**term / math.factorial(term) for term in range(number))
        for number in range(1, 11)
    )


def test_the_replicas_found_are_the_fewest_by_the_formula() -> None:
    objectives = a_service(objectives={"wait_s": 1, "attainment": 0.9}).objectives
    found = replicas_for(a_load(output={"exponential": 1.0}), objectives, 200)
    fewest = next(replicas for replicas in range(201, 1000) if waits_longer(200 / replicas, 1) <= 0.1)
    assert found.replicas == pytest.approx(fewest, rel=0.04)
    assert found.attainment >= 0.9


def erlang_measurements(tmp_path: Path, *, times: float = 1.0) -> Path:
    """What M/M/4 does by its formulas, with a rate that is `times` what it is."""
    servers, per_second = 4, 3.0
    wait_s = erlang_c(servers, per_second)
    spare = servers - per_second
    p95_s = _quantile_of_wait(wait_s, spare)
    seen = {"answered_per_second": per_second * times, "time_to_first_p95_s": p95_s * times, "refused": 0}
    load = a_load(rates=places(servers), output={"exponential": 1.0}).model_dump(mode="json", exclude_unset=True)
    load["rates"]["overhead_s"] = 0.5
    seen["time_to_first_p95_s"] += 0.5 + 1.0 - 0.05  # its first unit comes after at most one second of work
    point = {"replicas": 1, "per_second": per_second, "seconds": 3000, "warm_s": 100, "seen": seen}
    path = tmp_path / "measured.json"
    path.write_text(json.dumps({"name": "M/M/4", "load": load, "points": [point]}))
    return path


def _quantile_of_wait(waits: float, spare: float) -> float:
    """P(wait > t) = C e^-(spare t) = 5%."""
    return math.log(waits / 0.05) / spare


def test_validation_passes_where_the_formulas_are_the_measurements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate.main([str(erlang_measurements(tmp_path)), "--out", str(tmp_path)]) == 0
    assert "answers/s" in capsys.readouterr().out
    rows = json.loads((tmp_path / "validation.json").read_text())
    assert [row["met"] for row in rows] == [True] * 3
    assert "| 3/s on 1 replica | answers/s | 3 |" in (tmp_path / "validation.md").read_text()


def test_validation_fails_where_the_fleet_was_a_third_faster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate.main([str(erlang_measurements(tmp_path, times=1.34))]) == 1
    assert "off by more than what is stated" in capsys.readouterr().out


def test_a_small_time_is_not_wrong_by_its_share_alone() -> None:
    first = validate.Compared("load", "time", 0.01, 0.04, validate.TIME_ERROR, validate.SMALL_S)
    assert first.is_met
    assert not validate.Compared("load", "time", 1.0, 1.4, validate.TIME_ERROR, validate.SMALL_S).is_met
    assert not validate.Compared("load", "time", 1.0, float("nan"), validate.TIME_ERROR).is_met


def a_summary(path: Path, **changes: Any) -> Path:
    seconds = Distribution(count=90, mean=0.3, p50=0.3, p95=0.5, p99=0.6, max=0.7)
    counters = {"sent": 100, "answered": 90, "refused": 10}
    group = Group(modality="chat", model="m", metrics={"time_to_first_s": seconds, "end_to_end_s": seconds}, **counters)
    fields = {
        "host": "http://127.0.0.1",
        "started": datetime(2026, 1, 1, tzinfo=UTC),
        "seconds": 50,
        "seed": 1,
        "arrivals": "poisson",
        "shape": None,
        "offered_per_second": 2.0,
        "generator_cpu_share": 0.1,
        "groups": [group],
        "totals": Counters(**counters),
        **changes,
    }
    path.write_text(Summary.model_validate(fields).model_dump_json())
    return path


def a_point(tmp_path: Path, **fields: Any) -> Any:
    load = a_load().model_dump(mode="json", exclude_unset=True)
    path = tmp_path / "measured.json"
    path.write_text(json.dumps({"load": load, "points": [{"replicas": 1, **fields}]}))
    return validate.read(path, validate.Measurements).points[0]


def test_a_load_tests_summary_is_a_measurement(tmp_path: Path) -> None:
    a_summary(tmp_path / "load.json")
    point = a_point(tmp_path, summary="load.json")
    assert (point.per_second, point.seconds, point.seen.answered_per_second) == (2, 50, 1.8)
    assert (point.seen.time_to_first_p95_s, point.seen.refused) == (0.5, 0.1)


def test_a_summary_of_another_kind_of_load_is_refused(tmp_path: Path) -> None:
    a_summary(tmp_path / "load.json", arrivals="closed")
    with pytest.raises(validate.PlanError, match="say how many clients"):
        a_point(tmp_path, summary="load.json")
    assert a_point(tmp_path, summary="load.json", clients=4).steady.clients == 4


def test_measurements_that_are_incomplete_say_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "measured.json"
    path.write_text(json.dumps({"load": {"output": 1}, "points": []}))
    assert validate.main([str(path)]) == 2
    said = capsys.readouterr().err
    assert "load.rates: Field required" in said
    assert "points: List should have at least 1 item" in said
