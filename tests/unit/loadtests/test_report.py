"""The benchmark's report: which figures it compares, and that nothing measured is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.in_process import Rates
from loadtests.over_http import Served
from loadtests.report import FLEET, SERVE, STATIC, Results, ratio, targets, write


def served(rate: float) -> Served:
    return Served(
        idle_cpu_share=0.02,
        tokens_per_second=[rate, rate * 1.1],
        first_text_p50=[0.1, 0.1],
        first_text_p95=[0.2, 0.3],
        client_cpu_share=[0.05, 0.05],
        cpu_us={"gateway": [50.0, 60.0], "engine": [900.0, 900.0]},
    )


@pytest.fixture
def results() -> Results:
    rates = Rates(
        limit=[100.0, 50.0, 100.0],
        steady=[90.0, 46.0, 80.0],
        mixed=[70.0, 30.0, 75.0],
        mixed_limit=[100.0, 50.0, 100.0],
        mixed_decoded=[40.0, 20.0, 42.0],
        alone=[12.0, 6.0, 13.0],
    )
    http = {FLEET: served(700), STATIC: served(200), SERVE: served(800)}
    return Results(in_process={"GPT-2 14M": rates}, over_http={"GPT-2 14M": http}, seconds=120)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert ratio([90.0, 46.0, 80.0], [100.0, 50.0, 100.0]) == pytest.approx(0.9)  # not 80 / 100, the medians' ratio


def test_targets_say_what_was_met_and_what_was_not(results: Results) -> None:
    met = {target.name: target.met for target in targets(results)}
    assert met == {
        "GPT-2 14M: steady decode / limit": True,
        "GPT-2 14M: mixed load / limit": True,
        "GPT-2 14M: fleet / static": True,
        "GPT-2 14M: fleet / transformers serve": False,
    }


def test_the_report_holds_every_table_and_the_json_every_round(results: Results, tmp_path: Path) -> None:
    text = write(results, tmp_path).read_text()
    assert "| GPT-2 14M | steady decode | 80 (46 to 90) | 100 (50 to 100) | 0.90 |" in text
    assert "| GPT-2 14M | Castalia | 735 (700 to 770) | 3.50 | 0.10, 0.25 | 5% | 2% |" in text
    assert "| GPT-2 14M | gateway | 55 (50 to 60) |" in text
    assert "| GPT-2 14M: fleet / transformers serve | 1 | 0.88 | no |" in text
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["in_process"]["GPT-2 14M"]["steady"] == [90.0, 46.0, 80.0]
    assert kept["machine"]["cores"] >= 1


def test_half_a_run_makes_a_report_too(results: Results, tmp_path: Path) -> None:
    results.over_http = {}
    assert "steady decode" in write(results, tmp_path).read_text()
