"""The benchmark's report: which figures it compares, and that nothing measured is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.images import FORWARD_ROWS, LOW, SATURATED, ImageFigures, LoadFigures
from loadtests.in_process import Rates
from loadtests.over_http import Served
from loadtests.peers.image_servers import ONE_BY_ONE, REQUEST_LEVEL, STEP_LEVEL
from loadtests.peers.transformers_serve import TransformersServe
from loadtests.report import FLEET, STATIC, Results, ratio, targets, write


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
    http = {FLEET: served(700), STATIC: served(200), TransformersServe.name: served(800)}
    return Results(in_process={"GPT-2 14M": rates}, over_http={"GPT-2 14M": {16: http, 64: http}}, seconds=120)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert ratio([90.0, 46.0, 80.0], [100.0, 50.0, 100.0]) == pytest.approx(0.9)  # not 80 / 100, the medians' ratio


def test_targets_say_what_was_met_and_what_was_not(results: Results) -> None:
    met = {target.name: target.met for target in targets(results)}
    assert met == {
        "GPT-2 14M: steady decode / limit": True,
        "GPT-2 14M: mixed load / limit": True,
        f"GPT-2 14M, 16 clients: Castalia / {STATIC}": True,
        "GPT-2 14M, 16 clients: Castalia / transformers serve": False,
        f"GPT-2 14M, 64 clients: Castalia / {STATIC}": True,
        "GPT-2 14M, 64 clients: Castalia / transformers serve": False,
    }


def test_the_report_holds_every_table_and_the_json_every_round(results: Results, tmp_path: Path) -> None:
    text = write(results, tmp_path, "text").read_text()
    assert "| GPT-2 14M | steady decode | 80 (46 to 90) | 100 (50 to 100) | 0.90 |" in text
    assert "| GPT-2 14M | 64 | Castalia | 735 (700 to 770) | 3.50 | 0.10, 0.25 | 5% | 2% |" in text
    assert "| GPT-2 14M | gateway | 55 (50 to 60) |" in text
    assert "| GPT-2 14M, 16 clients: Castalia / transformers serve | 1 | 0.88 | no |" in text
    kept = json.loads((tmp_path / "text.json").read_text())
    assert kept["in_process"]["GPT-2 14M"]["steady"] == [90.0, 46.0, 80.0]
    assert kept["machine"]["cores"] >= 1


def image_figures(rate: float, short_p95: float, per_step: float) -> LoadFigures:
    return LoadFigures([rate, rate], [short_p95 / 2] * 2, [short_p95] * 2, [per_step, per_step * 1.2])


def test_image_targets_compare_with_request_level_batches_and_at_low_load_with_the_better_peer(tmp_path: Path) -> None:
    results = Results(
        images={
            "UNet": ImageFigures(
                {rows: [float(rows)] for rows in FORWARD_ROWS},
                {
                    STEP_LEVEL: {SATURATED: image_figures(40, 5, 0.6), LOW: image_figures(20, 0.5, 0.050)},
                    REQUEST_LEVEL: {SATURATED: image_figures(32, 11, 0.8), LOW: image_figures(20, 0.5, 0.049)},
                    ONE_BY_ONE: {SATURATED: image_figures(22, 20, 0.9), LOW: image_figures(20, 0.5, 0.046)},
                },
            )
        }
    )
    rate, wait, low = targets(results)
    assert (rate.got, rate.met) == (pytest.approx(1.25), False)
    assert (wait.got, wait.met) == (pytest.approx(2.2), True)
    assert (low.got, low.met) == (pytest.approx(0.92), False)
    text = write(results, tmp_path, "images").read_text()
    assert "| UNet | saturated, 24 clients | one by one | 22 (22 to 22) | 10.00" in text
    assert "| UNet | 1 | 4 | 8 | 24 |" in text


def test_half_a_run_makes_a_report_too(results: Results, tmp_path: Path) -> None:
    results.over_http = {}
    assert "steady decode" in write(results, tmp_path, "text").read_text()
