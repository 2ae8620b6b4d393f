"""From series to rows, what comes back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from services.families import LoadedModel
from services.families.neural_ode.series.params import ForecastParams, Grid
from services.families.neural_ode.series.sampler import ForecastChunk
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.forecasts import ForecastRequest
from tests.contract.driver import run_rows

VALUES = [1.0, 3.0, 2.0, 4.0, 3.0, 5.0, 4.0, 6.0]
TIMES = [0.0, 1.0, 1.5, 3.0, 4.0, 4.5, 6.0, 7.0]


def rows_of(loaded: LoadedModel, **fields: Any) -> list[ForecastParams]:
    fields = {"input": {"values": VALUES}, "horizon": 3} | fields
    if "times" in fields:
        fields.pop("horizon")
    request = ForecastRequest.model_validate_json(json.dumps({"model": "tiny", **fields}))
    return list(loaded.tasks["forecast"].prepare(request))


def told(loaded: LoadedModel, rows: list[ForecastParams]) -> list[ForecastChunk]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0] for i in range(1, len(rows) + 1)]


def test_a_horizon_goes_on_by_the_last_interval(series: LoadedModel) -> None:
    (row,) = rows_of(series, input={"values": VALUES, "times": [*TIMES[:-1], 8.0]}, horizon=3)
    assert row.times == (10.0, 12.0, 14.0)


def test_timestamps_are_days_apart_and_come_back_as_they_came(series: LoadedModel) -> None:
    ends = ["05-31", "06-30", "07-31", "08-31", "09-30", "10-31", "11-30", "12-31"]
    months = [f"2023-{end}" for end in ends]
    (row,) = rows_of(series, input={"values": VALUES, "times": months}, horizon=2)
    assert row.times == ("2024-01-31", "2024-02-29")
    days = torch.tensor([30.0, 31, 31, 30, 31, 30, 31])
    assert torch.allclose(row.series.observations[1:, 1], days / days.mean())
    (asked,) = rows_of(series, input={"values": VALUES, "times": months}, times=["2024-01-12"])
    assert asked.times == ("2024-01-12",)
    assert sum(asked.grid.widths) == pytest.approx(12 / days.mean().item())


def test_a_period_is_refused_as_it_would_be_ignored(series: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="takes no period") as caught:
        rows_of(series, input=[{"values": VALUES, "period": 4}])
    assert (caught.value.param, caught.value.code) == ("input[0].period", "unsupported_parameter")


def test_a_forecast_reaches_the_client_as_asked(series: LoadedModel) -> None:
    (row,) = rows_of(series, input={"values": VALUES, "times": TIMES}, times=[7.5, 9.0], quantiles=[0.25, 0.5], seed=4)
    (chunk,) = told(series, [row])
    item = series.tasks["forecast"].encode(chunk)
    assert isinstance(item, Item)
    body = json.loads(item.json)
    assert (body["object"], body["times"], body["samples"], body["seed"]) == ("forecast", [7.5, 9.0], 100, 4)
    low, middle = body["quantiles"]
    assert (low["level"], middle["level"]) == (0.25, 0.5)
    assert all(a < b for a, b in zip(low["values"], middle["values"], strict=True))
    assert len(body["mean"]) == 2


def test_units_of_values_and_times_change_nothing_else(series: LoadedModel) -> None:
    (plain,) = told(series, rows_of(series, input={"values": VALUES, "times": TIMES}, times=[8.0, 9.5], seed=1))
    moved = {"values": [1e6 + 10 * value for value in VALUES], "times": [2000 + time / 4 for time in TIMES]}
    (other,) = told(series, rows_of(series, input=moved, times=[2002.0, 2002.375], seed=1))
    assert other.mean == pytest.approx([1e6 + 10 * value for value in plain.mean], abs=1e-2)
    for line, plain_line in zip(other.quantiles, plain.quantiles, strict=True):
        assert line == pytest.approx([1e6 + 10 * value for value in plain_line], abs=1e-2)


def test_series_of_a_request_draw_for_themselves_and_a_seed_gives_each_again(series: LoadedModel) -> None:
    rows = rows_of(series, input=[{"values": VALUES}] * 2, seed=9)
    assert [row.seed for row in rows] == [image_seed(9, i) for i in range(2)]
    first, second = told(series, rows)
    assert first.quantiles != second.quantiles
    (again,) = told(series, rows_of(series, seed=second.params.seed))
    for line, known in zip(again.quantiles, second.quantiles, strict=True):
        assert line == pytest.approx(known, rel=1e-4)


def test_more_times_do_not_change_the_ones_before_but_for_the_solver(series: LoadedModel) -> None:
    few, many = (
        told(series, rows_of(series, times=times, seed=2))[0] for times in ([8.0, 12.0], [8.0, 8.1, 9.3, 12.0])
    )
    assert few.mean[0] == pytest.approx(many.mean[0], rel=1e-4)
    assert few.mean[1] == pytest.approx(many.mean[3], rel=1e-2)


def test_a_series_that_never_changes_is_told(series: LoadedModel) -> None:
    (chunk,) = told(series, rows_of(series, input={"values": [5.0] * 6}))
    assert all(torch.tensor(line).isfinite().all() for line in chunk.quantiles)


def test_a_grid_leads_to_every_target_in_steps_that_are_short_enough() -> None:
    grid = Grid.of([0.2, 1.4, 1.5], max_step=0.5)
    assert len(grid.widths) == 1 + 3 + 1
    assert [sum(grid.widths[:mark]) for mark in grid.marks] == pytest.approx([0.2, 1.4, 1.5])
    assert max(grid.widths) <= 0.5


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": {"values": VALUES[:3]}}, "input.values", "4 to 64 observations"),
        ({"input": [{"values": VALUES}, {"values": [1.0] * 65}]}, "input[1].values", "'input\\[1\\]' has 65"),
        ({"horizon": 41}, "horizon", "at most 40 mean intervals.*got 41"),
        ({"times": [100.0]}, "times", "for 'input' 40; got 93"),
        ({"times": [7.0, 8.0]}, "times", "after the last time"),
        ({"times": [9.0, 8.0]}, "times", "must increase"),
    ],
)
def test_what_cannot_be_told_is_refused(series: LoadedModel, fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        rows_of(series, **fields)
    assert (caught.value.status, caught.value.param) == (400, param)
