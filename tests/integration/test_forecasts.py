"""Built-in models of series, asked over HTTP: values alone, timestamps, irregular times, seeds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from shared.config.neural_ode import OdeSeriesModel
from tests.integration.conftest import BUILTIN, LocalFleet

CONFIGS = [model for service in BUILTIN for model in service.models if "forecast" in model.does]
MODELS = [model.id for model in CONFIGS]
OF_ANY_TIMES = [model.id for model in CONFIGS if isinstance(model, OdeSeriesModel)]
OF_REGULAR_ONES = [name for name in MODELS if name not in OF_ANY_TIMES]
EXAMPLE = Path(__file__).parents[2] / "docs/examples/forecast.py"
MONTHS = [f"{2018 + i // 12}-{i % 12 + 1:02}" for i in range(60)]


@pytest.fixture(scope="module")
def http(local_fleet: LocalFleet) -> Iterator[httpx.Client]:
    with local_fleet.http() as client:
        client.timeout = httpx.Timeout(120)  # the first request wakes a model
        yield client


def forecasts(client: httpx.Client, model: str, **body: Any) -> list[Any]:
    answer = client.post("/v1/forecasts", json={"model": model, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def refusal(client: httpx.Client, model: str, **body: Any) -> Any:
    answer = client.post("/v1/forecasts", json={"model": model, **body})
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def wave(count: int, season: float = 12, first: int = 0) -> list[float]:
    return (100 + 20 * np.sin(2 * np.pi * np.arange(first, first + count) / season)).tolist()


def numbers(forecast: Any) -> list[float]:
    return [*forecast["mean"], *(value for path in forecast["quantiles"] for value in path["values"])]


@pytest.mark.parametrize("model", OF_ANY_TIMES)
def test_a_forecast_of_irregular_times_has_ordered_quantiles(http: httpx.Client, model: str) -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.5, 1.5, 48))
    series = {"times": times.tolist(), "values": np.sin(times / 2).tolist()}
    ahead = (times[-1] + np.arange(1, 7)).tolist()
    (forecast,) = forecasts(http, model, input=series, times=ahead, seed=1)
    low, middle, high = (np.array(path["values"]) for path in forecast["quantiles"])
    assert forecast["times"] == pytest.approx(ahead)
    assert (low <= middle).all()
    assert (middle <= high).all()


@pytest.mark.parametrize("model", OF_REGULAR_ONES)
def test_a_season_goes_on_and_lies_within_its_quantiles(http: httpx.Client, model: str) -> None:
    noise = np.random.default_rng(0).normal(scale=2, size=60)
    values = (np.array(wave(60)) + noise).tolist()
    (forecast,) = forecasts(http, model, input={"values": values}, horizon=12, quantiles=[0.05, 0.5, 0.95], seed=1)
    low, middle, high = (np.array(path["values"]) for path in forecast["quantiles"])
    truth = np.array(wave(12, first=60))
    assert (forecast["times"], forecast["period"]) == (list(range(60, 72)), 12)
    assert (low < middle).all()
    assert (middle < high).all()
    assert ((low < truth) & (truth < high)).mean() > 0.8
    assert np.abs(middle - truth).mean() < 5


@pytest.mark.parametrize("model", MODELS)
def test_timestamps_come_back_in_their_form(http: httpx.Client, model: str) -> None:
    series = {"values": wave(60), "times": MONTHS}
    (forecast,) = forecasts(http, model, input=series, horizon=3, seed=1)
    assert forecast["times"] == ["2023-01", "2023-02", "2023-03"]
    (asked,) = forecasts(http, model, input=series, times=["2023-02"], seed=1)
    assert asked["times"] == ["2023-02"]
    error = refusal(http, model, input=series, times=[5.0])
    assert error["param"] == "times"


@pytest.mark.parametrize("model", MODELS)
def test_a_seed_gives_a_forecast_again_alone_and_beside_others(http: httpx.Client, model: str) -> None:
    noise = np.random.default_rng(0).normal(scale=5, size=60)
    series = {"values": (np.array(wave(60)) + noise).tolist()}
    others = [{"values": wave(30, 7)}, {"values": wave(90, 24)}]
    (alone,) = forecasts(http, model, input=series, horizon=8, seed=5)
    beside, *_ = forecasts(http, model, input=[series, *others], horizon=8, seed=5)
    (other,) = forecasts(http, model, input=series, horizon=8, seed=6)
    assert numbers(alone) == pytest.approx(numbers(beside), rel=1e-3)
    assert numbers(alone) != pytest.approx(numbers(other), rel=1e-3)


@pytest.mark.parametrize("model", OF_REGULAR_ONES)
def test_irregular_times_are_refused_by_a_model_of_regular_ones(http: httpx.Client, model: str) -> None:
    days = [f"2024-01-{day:02}" for day in (1, 2, 3, 4, 5, 8, 9, 10, 11, 12)]
    for times in ([*range(9), 20.0], days):
        error = refusal(http, model, input={"values": wave(10), "times": times}, horizon=2)
        assert (error["code"], error["param"]) == ("irregular_times", "input.times")
        assert "regular series" in error["message"]


def test_the_example_tells_the_end_of_a_file(local_fleet: LocalFleet, tmp_path: Path) -> None:
    file = tmp_path / "waves.csv"
    file.write_text("\n".join(["month,waves", *(f"{a},{b}" for a, b in zip(MONTHS, wave(60), strict=True))]))
    command = [sys.executable, EXAMPLE, file, "--ahead", "6", "--url", local_fleet.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    *rows, season, _ = done.stdout.splitlines()
    assert [row.split(":")[0] for row in rows] == MONTHS[-6:]
    assert season.startswith("a season is 12 values")
