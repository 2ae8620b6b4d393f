"""Records to tensors and back, and the tasks that both kinds of model of records share."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from services.nn.percentiles import Distribution, Known
from services.nn.record_tasks import (
    DrawnRecord,
    Measure,
    RecordEmbeddingTask,
    RecordReconstructionTask,
    RecordScoreTask,
    RecordTask,
    RecordVector,
    ScoredRecord,
    SeenRecord,
    drawn,
    entries_of,
    read_records,
    seen,
)
from services.nn.records import Entries, NumberColumn, Table
from services.training.record_data import RecordSplit, fit_numbers
from shared.errors import InvalidRequest
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.reconstructions import ReconstructionRequest
from shared.schemas.records import RecordGenerationRequest, RecordRow, TableColumn
from shared.schemas.scores import Score, ScoreRequest
from tests.record_tables import DRAFTS, TOWNS, make_records, make_split

PERSON: dict[str, Any] = {"age": 40, "height": 1.7, "visits": 0, "smokes": 1, "town": "south", "ill": 0}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> RecordSplit:
    return make_split(tmp_path_factory.mktemp("records"))


@pytest.fixture
def table(split: RecordSplit) -> Table:
    return split.table


def scores(table: Table) -> RecordScoreTask:
    known = Known(training=Distribution.of(torch.arange(101.0)), held_out=Distribution.of(torch.arange(201.0)))
    measures = {"elbo": Measure("lower_bound", samples=4, most_samples=8), "log_likelihood": Measure("exact")}
    return RecordScoreTask("people", table, measures, {"elbo": known})  # type: ignore[arg-type]


def ask(kind: Any, *records: object, **options: object) -> Any:
    return kind.model_validate({"model": "people", "input": list(records), **options})


# ---- the table ----


def test_every_number_of_the_grid_comes_back_from_its_normal_one(table: Table) -> None:
    for place, column in enumerate(table.numbers):
        steps = torch.arange(round((column.maximum - column.minimum) / column.step) + 1, dtype=torch.float64)
        grid = column.minimum + steps * column.step
        numbers = torch.full((len(grid), len(table.numbers)), 1.0, dtype=torch.float64)
        numbers[:, place] = grid
        again = table.from_normal(table.to_normal(numbers).float())
        torch.testing.assert_close(again[:, place], grid, rtol=0, atol=1e-9)


def test_training_numbers_are_standard_normal_once_they_are_spread_over_their_bins(split: RecordSplit) -> None:
    draws = torch.rand(split.train.numbers.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    normals = split.table.to_normal(split.table.dequantise(split.train.numbers, draws))
    assert normals.mean(dim=0).abs().max() < 0.1
    assert (normals.std(dim=0) - 1).abs().max() < 0.1


def test_what_lies_beyond_a_range_becomes_its_bound(table: Table) -> None:
    far = table.from_normal(torch.tensor([[-9.0] * 3, [9.0] * 3]))
    assert far.tolist() == [[c.minimum for c in table.numbers], [c.maximum for c in table.numbers]]


def test_slopes_are_those_of_the_normal_numbers(split: RecordSplit) -> None:
    numbers = split.train.numbers + 0.0013  # off the knots
    by_hand = (split.table.to_normal(numbers + 1e-7) - split.table.to_normal(numbers - 1e-7)) / 2e-7
    torch.testing.assert_close(split.table.log_slopes(numbers), by_hand.log(), rtol=0, atol=1e-4)


def test_the_density_of_a_column_integrates_to_one() -> None:
    column = fit_numbers(DRAFTS[2], [0.0] * 60 + [float(x) for x in range(40)], 0, 60)
    table = Table(columns=(column,))
    numbers = torch.linspace(-0.5, 60.5, 400_001, dtype=torch.float64)[:, None]
    log_density = torch.distributions.Normal(0.0, 1.0).log_prob(table.to_normal(numbers)) + table.log_slopes(numbers)
    assert torch.trapezoid(log_density.exp()[:, 0], numbers[:, 0]).item() == pytest.approx(1, abs=0.01)
    none = (numbers[:, 0] >= -0.5) & (numbers[:, 0] < 0.5)
    share = torch.trapezoid(log_density.exp()[none, 0], numbers[none, 0]).item()
    assert share == pytest.approx(0.61, abs=0.015), "a value that most records share has its own knots"


def test_records_come_back_from_entries_in_the_order_and_types_of_the_columns(table: Table) -> None:
    records = make_records(20)
    again = table.records(table.entries(records))
    assert again == records
    assert [list(record) for record in again] == [[draft.name for draft in DRAFTS]] * 20
    assert {type(value) for value in again[0].values()} == {int, float, str}


def test_features_are_normal_numbers_and_one_hot_blocks(table: Table) -> None:
    entries = table.entries([PERSON])
    features = table.features(entries)
    assert features.dtype == torch.float32
    assert features.shape == (1, table.width) == (1, 3 + 2 + 3 + 2)
    assert features[0, 3:].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert [block.shape[1] for block in table.blocks(features[:, 3:])] == [2, 3, 2]


def test_the_error_is_of_scaled_numbers_and_other_categories(table: Table) -> None:
    given, other = table.entries([PERSON, PERSON]), table.entries([PERSON, PERSON | {"town": "north"}])
    assert table.error(given, other).tolist() == [0, pytest.approx(1 / 6)]


def test_a_table_survives_its_file(table: Table) -> None:
    again = Table.model_validate_json(table.model_dump_json())
    assert again == table
    assert [each.model_dump(exclude_none=True) for each in again.listing()][4] == {
        "name": "town",
        "type": "category",
        "description": "where they live",
        "categories": list(TOWNS),
    }


@pytest.mark.parametrize("values", [(1.0, 1.0), (2.0, 1.0), (1.0, 2.0, 3.0)])
def test_knots_that_do_not_ascend_are_no_column(values: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        NumberColumn(name="x", type="number", minimum=0, maximum=1, values=values, normals=(0.0, 1.0))


@pytest.mark.parametrize("missing", ["numbers", "categories"])
def test_a_table_may_lack_numbers_or_categories(table: Table, missing: str) -> None:
    rest = Table(columns=table.categories if missing == "numbers" else table.numbers)
    entries = rest.entries([{name: PERSON[name] for name in (c.name for c in rest.columns)}] * 2)
    assert rest.features(entries).shape == (2, rest.width)
    assert rest.records(Entries(rest.from_normal(rest.to_normal(entries.numbers)), entries.codes)) == rest.records(
        entries
    )
    assert rest.error(entries, entries).tolist() == [0, 0]


# ---- what a request gives ----


@pytest.mark.parametrize(
    ("change", "param", "code", "says"),
    [
        ({"age": 17}, "age", "invalid_value", "must be from 18 to 89; got 17"),
        ({"age": 90}, "age", "invalid_value", "must be from 18 to 89; got 90"),
        ({"age": 40.5}, "age", "invalid_value", "must be a whole number; got 40.5"),
        ({"age": "40"}, "age", "invalid_type", "must be a whole number; got '40'"),
        ({"age": True}, "age", "invalid_type", "must be a whole number; got true"),
        ({"height": None}, "height", "invalid_type", "must be a number; got null"),
        ({"town": "West"}, "town", "invalid_value", "must be one of north, south, east, or west; got 'West'"),
        ({"town": "x" * 500}, "town", "invalid_value", "got 'xxxxx"),
        ({"smokes": 2}, "smokes", "invalid_value", "must be one of 0, 1; got 2"),
        ({"smokes": True}, "smokes", "invalid_type", "got true"),
        ({"smokes": "1"}, "smokes", "invalid_value", "got '1'"),
        ({"smokes": None}, "smokes", "invalid_type", "got null"),
        ({"wealth": 3}, "wealth", "unknown_parameter", "no column 'wealth'; it has: age, height"),
    ],
)
def test_a_value_that_is_not_the_columns_is_refused(
    table: Table, change: dict[str, object], param: str, code: str, says: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_records(ask(ScoreRequest, PERSON, PERSON | change), table)
    assert (refused.value.param, refused.value.code) == (f"input[1].{param}", code)
    assert says in refused.value.message
    assert len(refused.value.message) < 200


def test_a_record_without_a_column_is_refused(table: Table) -> None:
    short = {name: value for name, value in PERSON.items() if name != "ill"}
    with pytest.raises(InvalidRequest) as refused:
        read_records(ScoreRequest.model_validate({"model": "people", "input": short}), table)
    assert (refused.value.param, refused.value.code) == ("input.ill", "missing_required_parameter")


def test_a_text_is_no_record(table: Table) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_records(ask(ScoreRequest, PERSON, "data:image/png;base64,AAAA"), table)
    assert (refused.value.param, refused.value.code) == ("input[1]", "invalid_type")


def test_a_whole_number_may_be_written_with_a_point(table: Table) -> None:
    pointed = PERSON | {"age": 40.0, "smokes": 1.0}
    plain, other = read_records(ask(ScoreRequest, PERSON, pointed), table)
    assert plain == other


# ---- the tasks ----


def test_records_are_drawn_from_seeds_that_draw_them_again(table: Table) -> None:
    task = RecordTask("people", table)
    rows = task.prepare(RecordGenerationRequest(model="people", n=3, seed=7, temperature=0.5))
    assert rows[0].seed == 7
    assert len({row.seed for row in rows}) == 3
    assert {row.temperature for row in rows} == {0.5}
    alone = task.prepare(RecordGenerationRequest(model="people", n=1, seed=rows[2].seed))
    assert alone[0].seed == rows[2].seed


def test_the_columns_come_with_the_first_record_alone(table: Table) -> None:
    task = RecordTask("people", table)
    first, second = task.prepare(RecordGenerationRequest(model="people", n=2))
    chunks = drawn(table, [first, second], table.entries([PERSON, PERSON]), [True, True])
    events = [task.encode(chunk) for chunk in chunks if chunk is not None]
    columns = json.loads(events[0].head)["columns"]
    assert [TableColumn.model_validate(column) for column in columns] == table.listing()
    assert events[1].head == b""
    row = RecordRow.model_validate({"index": 1, **json.loads(events[1].json)})
    assert (row.record, row.seed, events[1].tokens) == (PERSON, second.seed, 0)


def test_a_record_that_is_not_finite_has_no_chunk(table: Table) -> None:
    rows = RecordTask("people", table).prepare(RecordGenerationRequest(model="people", n=2, seed=1))
    entries = table.entries([PERSON, PERSON])
    assert drawn(table, rows, entries, [False, True]) == [None, DrawnRecord(PERSON, rows[1].seed, is_first=False)]
    assert seen(table, entries, entries, [None, 5], [True, False]) == [SeenRecord(PERSON, 0.0), None]


def test_a_model_without_a_temperature_refuses_one(table: Table) -> None:
    task = RecordTask("people", table, has_temperature=False)
    with pytest.raises(InvalidRequest) as refused:
        task.prepare(RecordGenerationRequest(model="people", temperature=1.0))
    assert (refused.value.param, refused.value.code) == ("temperature", "unsupported_parameter")


def test_a_score_is_of_the_first_metric_if_none_is_named(table: Table) -> None:
    rows = scores(table).prepare(ask(ScoreRequest, PERSON, PERSON, seed=3))
    assert [(row.metric, row.samples, row.cost) for row in rows] == [("elbo", 4, 4.0)] * 2
    assert entries_of(rows).codes.tolist() == table.entries([PERSON, PERSON]).codes.tolist()
    exact = scores(table).prepare(ask(ScoreRequest, PERSON, metric="log_likelihood"))
    assert [(row.metric, row.samples, row.cost) for row in exact] == [("log_likelihood", 0, 1.0)]


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"metric": "energy"}, "metric", "unsupported_metric"),
        ({"samples": 9}, "samples", "invalid_value"),
        ({"samples": 2, "metric": "log_likelihood"}, "samples", "unsupported_parameter"),
        ({"prompt": "a seven"}, "prompt", "unsupported_parameter"),
    ],
)
def test_what_a_model_cannot_score_is_refused(table: Table, options: dict[str, object], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        scores(table).prepare(ask(ScoreRequest, PERSON, **options))
    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_score_says_what_it_is_and_where_it_stands(table: Table) -> None:
    event = scores(table).encode(ScoredRecord("elbo", 50.0, standard_error=0.5, seed=9))
    score = Score.model_validate({"index": 0, **json.loads(event.json)})
    assert (score.kind, score.value, score.standard_error, score.seed) == ("lower_bound", 50.0, 0.5, 9)
    assert score.percentile is not None
    assert (score.percentile.training, score.percentile.held_out) == (50.0, 25.0)
    exact = json.loads(scores(table).encode(ScoredRecord("log_likelihood", 1.0)).json)
    assert (exact["kind"], exact["percentile"]) == ("exact", None)


@pytest.mark.parametrize("options", [{"steps": 2}, {"output_format": "jpeg", "output_compression": 50}])
def test_a_reconstruction_of_records_has_no_options_of_chains_and_pictures(
    table: Table, options: dict[str, object]
) -> None:
    task = RecordReconstructionTask("people", table)
    with pytest.raises(InvalidRequest) as refused:
        task.prepare(ask(ReconstructionRequest, PERSON, **options))
    assert refused.value.code == "unsupported_parameter"


def test_a_reconstruction_is_a_record_and_its_error(table: Table) -> None:
    task = RecordReconstructionTask("people", table)
    rows = task.prepare(ask(ReconstructionRequest, PERSON, PERSON))
    given, other = entries_of(rows), table.entries([PERSON, PERSON | {"ill": 1}])
    chunks = [chunk for chunk in seen(table, given, other, [None, 8], [True, True]) if chunk is not None]
    bodies = [json.loads(task.encode(chunk).json) for chunk in chunks]
    assert [(body["error"], body["record"]["ill"], body["seed"]) for body in bodies] == [
        (0, 0, None),
        (pytest.approx(1 / 6), 1, 8),
    ]


def test_an_embedding_has_the_numbers_that_were_asked_for(table: Table) -> None:
    task = RecordEmbeddingTask("people", table, size=4)
    (row,) = task.prepare(ask(EmbeddingRequest, PERSON, dimensions=2, encoding_format="base64"))
    assert (row.dimensions, row.encoding) == (2, "base64")
    body = json.loads(task.encode(RecordVector((0.5, -1.0), row.encoding)).json)
    assert np.frombuffer(base64.b64decode(body["embedding"]), "<f4").tolist() == [0.5, -1.0]
    with pytest.raises(InvalidRequest) as refused:
        task.prepare(ask(EmbeddingRequest, PERSON, dimensions=5))
    assert refused.value.param == "dimensions"
