"""From series to rows, what comes back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.families import LoadedModel
from services.families.recurrent.forecasts.params import ForecastParams
from services.families.recurrent.forecasts.sampler import ForecastChunk
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.forecasts import ForecastRequest
from tests.contract.driver import run_rows
from tests.unit.recurrent.forecasts.tiny import forecast_config, wave

MONTHS = [f"{2020 + i // 12}-{i % 12 + 1:02}" for i in range(30)]


def request_of(**fields: Any) -> ForecastRequest:
    fields = {"input": {"values": wave(30)}, "horizon": 3} | fields
    if "times" in fields:
        fields.pop("horizon")
    return ForecastRequest.model_validate_json(json.dumps({"model": "tiny", **fields}))


def rows_of(loaded: LoadedModel, **fields: Any) -> list[ForecastParams]:
    return list(loaded.tasks["forecast"].prepare(request_of(**fields)))


def told(loaded: LoadedModel, rows: list[ForecastParams]) -> list[ForecastChunk]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0] for i in range(1, len(rows) + 1)]


def test_a_forecast_reaches_the_client_as_asked(forecaster: LoadedModel) -> None:
    series = {"values": wave(30), "times": MONTHS}
    (chunk,) = told(forecaster, rows_of(forecaster, input=series, quantiles=[0.25, 0.5], seed=4))
    item = forecaster.tasks["forecast"].encode(chunk)
    assert isinstance(item, Item)
    body = json.loads(item.json)
    assert (body["times"], body["period"]) == (["2022-07", "2022-08", "2022-09"], 12)
    assert (body["object"], body["samples"], body["seed"]) == ("forecast", 100, 4)
    low, middle = body["quantiles"]
    assert (low["level"], middle["level"]) == (0.25, 0.5)
    assert all(a < b for a, b in zip(low["values"], middle["values"], strict=True))
    assert len(body["mean"]) == 3


def test_times_asked_for_are_told_and_echoed(forecaster: LoadedModel) -> None:
    series = {"values": wave(30), "times": [2000 + i / 12 for i in range(30)]}
    (row,) = rows_of(forecaster, input=series, times=[2002.5, 2002.917])
    assert (row.steps, row.times) == ((1, 6), (2002.5, 2002.917))
    (row,) = rows_of(forecaster, input={"values": wave(30), "times": MONTHS}, times=["2022-08", "2023-06"])
    assert (row.steps, row.times) == ((2, 12), ("2022-08", "2023-06"))


def test_rounded_times_do_not_lead_away(forecaster: LoadedModel) -> None:
    """Months as shares of years to two places: the last interval is 0.08, the mean one 0.083."""
    rounded = [round(2000 + i / 12, 2) for i in range(26)]
    series = {"values": wave(26), "times": rounded}
    (row,) = rows_of(forecaster, input=series, times=[2003.0])
    assert row.steps == (11,)
    (row,) = rows_of(forecaster, input=series, horizon=11)
    assert row.times[-1] == pytest.approx(2003.0, abs=0.01)


def test_units_of_values_and_times_change_nothing_else(forecaster: LoadedModel) -> None:
    (plain,) = told(forecaster, rows_of(forecaster, seed=1))
    moved = {"values": [1e6 + 10 * value for value in wave(30)], "times": [2000 + i / 4 for i in range(30)]}
    (other,) = told(forecaster, rows_of(forecaster, input=moved, seed=1))
    assert other.params.times == (2007.5, 2007.75, 2008.0)
    assert other.mean == pytest.approx([1e6 + 10 * value for value in plain.mean], abs=0.5)


def test_series_of_a_request_draw_for_themselves_and_a_seed_gives_each_again(forecaster: LoadedModel) -> None:
    rows = rows_of(forecaster, input=[{"values": wave(30)}] * 2, seed=9)
    assert [row.seed for row in rows] == [image_seed(9, i) for i in range(2)]
    first, second = told(forecaster, rows)
    assert first.quantiles != second.quantiles
    (again,) = told(forecaster, rows_of(forecaster, seed=second.params.seed))
    for line, known in zip(again.quantiles, second.quantiles, strict=True):
        assert line == pytest.approx(known, rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "param", "code", "says"),
    [
        ({"input": {"values": [1.0] * 5}}, "input.values", None, "6 to 300 observations"),
        ({"input": [{"values": wave(30)}, {"values": wave(301)}]}, "input[1].values", None, "has 301"),
        (
            {"input": {"values": [1.0] * 6, "times": [0, 1, 2, 3, 4, 6]}},
            "input.times",
            "irregular_times",
            "from 1 to 2",
        ),
        (
            {"input": {"values": [1.0] * 6, "times": [f"2024-01-{day:02}" for day in (1, 2, 3, 4, 5, 8)]}},
            "input.times",
            "irregular_times",
            "from 1 to 3 days",
        ),
        ({"times": [31.0, 32.5]}, "times", "irregular_times", "intervals of 'input'"),
        ({"times": [29.0, 31.0]}, "times", None, "must increase"),
        ({"times": [90.0]}, "times", None, "at most 60 values after 'input'; got 61"),
        ({"horizon": 61}, "horizon", None, "at most 60 values after 'input'; got 61"),
        ({"input": {"values": wave(100), "period": 41}}, "input.period", None, "at most 40"),
        ({"input": {"values": wave(30), "period": 30}}, "input.period", None, "below the number of values"),
        (
            {"input": {"values": [1.0] * 6, "times": [f"999{i}" for i in range(4, 10)]}, "horizon": 1},
            "horizon",
            None,
            "before the year 10000",
        ),
    ],
)
def test_what_it_cannot_tell_is_refused(
    forecaster: LoadedModel, fields: dict[str, Any], param: str, code: str | None, says: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rows_of(forecaster, **fields)
    assert caught.value.param == param
    assert says in caught.value.message
    assert code is None or caught.value.code == code


def test_a_bound_is_no_less_than_the_cost(forecaster: LoadedModel) -> None:
    config = forecast_config(Path("/weights"))
    for fields in ({"horizon": 7}, {"times": [31.0, 80.0]}, {"samples": 3}, {"input": [{"values": wave(20)}] * 3}):
        request = request_of(**fields)
        cost = sum(row.cost for row in forecaster.tasks["forecast"].prepare(request))
        assert cost <= config.cost_bound(request, forecaster.limits)
