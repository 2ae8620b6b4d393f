"""Records through the loaded model: what is drawn, scored, embedded and refused, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from services.families import LoadedModel
from services.families.flow.family import load
from services.families.flow.record_bulk import load_record_flow, score_records
from services.nn.errors import UnsupportedModel
from shared.errors import InvalidRequest
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.records import RecordGenerationRequest
from shared.schemas.scores import ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.flow.tiny import tiny_config
from tests.unit.flow.tiny_records import tiny_record_config

RECORD = {"age": 30, "weight": 55.5, "kind": "b", "cens": 0}
OTHER = {"age": 50, "weight": 65.0, "kind": "a", "cens": 1}
REQUESTS: dict[str, type[BaseModel]] = {
    "record": RecordGenerationRequest,
    "score": ScoreRequest,
    "embedding": EmbeddingRequest,
}


def answers(loaded: LoadedModel, task: str, **fields: Any) -> list[dict[str, Any]]:
    rows = list(loaded.tasks[task].prepare(REQUESTS[task].model_validate({"model": "tiny-records", **fields})))
    run = run_rows(loaded.sampler, rows)
    return [json.loads(loaded.tasks[task].encode(run.chunks(i)[0]).json) for i in range(1, len(rows) + 1)]


def test_a_drawn_record_s_seed_draws_it_again(loaded_records: LoadedModel) -> None:
    drawn = answers(loaded_records, "record", n=5, seed=3)
    assert len({json.dumps(row["record"]) for row in drawn}) > 1
    for row in drawn:
        (again,) = answers(loaded_records, "record", seed=row["seed"])
        assert again["record"] == row["record"]


def test_drawn_records_keep_types_ranges_and_categories(loaded_records: LoadedModel) -> None:
    """What comes out is taken as input."""
    drawn = [row["record"] for row in answers(loaded_records, "record", n=50, seed=0, temperature=2.0)]
    assert all(type(record["age"]) is int and 20 <= record["age"] <= 59 for record in drawn)
    assert all(round(record["weight"], 1) == record["weight"] for record in drawn)
    assert {record["kind"] for record in drawn} <= {"a", "b", "c"}
    assert len(answers(loaded_records, "score", input=drawn)) == 50


def test_a_low_temperature_draws_records_that_are_alike(loaded_records: LoadedModel) -> None:
    def spread(temperature: float) -> int:
        rows = answers(loaded_records, "record", n=40, seed=0, temperature=temperature)
        return len({row["record"]["age"] for row in rows})

    assert spread(0.01) <= 2 < spread(1.0)


def test_a_score_is_the_exact_log_probability(loaded_records: LoadedModel, record_folder: Path) -> None:
    flow = load_record_flow(record_folder)
    expected = score_records(flow, flow.config.table.entries([RECORD, OTHER])).tolist()
    scores = answers(loaded_records, "score", input=[RECORD, OTHER])
    assert [score["value"] for score in scores] == pytest.approx(expected, abs=1e-4)
    for score in scores:
        assert (score["metric"], score["kind"], score["standard_error"], score["seed"]) == (
            "log_likelihood",
            "exact",
            None,
            None,
        )
        assert score["percentile"]["training"] == pytest.approx(min(100, max(0, 2 * (score["value"] + 50))), abs=0.1)


def test_an_embedding_has_a_number_for_each_column(loaded_records: LoadedModel) -> None:
    one, other = answers(loaded_records, "embedding", input=[RECORD, OTHER])
    assert len(one["embedding"]) == 4
    assert one["embedding"] != other["embedding"]
    (cut,) = answers(loaded_records, "embedding", input=RECORD, dimensions=2)
    assert cut["embedding"] == pytest.approx(one["embedding"][:2], abs=1e-5)


@pytest.mark.parametrize(
    ("task", "fields", "param", "code"),
    [
        ("score", {"input": RECORD, "metric": "elbo"}, "metric", "unsupported_metric"),
        ("score", {"input": RECORD, "samples": 4}, "samples", "unsupported_parameter"),
        ("score", {"input": RECORD, "prompt": "seven"}, "prompt", "unsupported_parameter"),
        ("score", {"input": "text"}, "input", "invalid_type"),
        ("score", {"input": [RECORD, {**RECORD, "kind": "d"}]}, "input[1].kind", "invalid_value"),
        ("embedding", {"input": RECORD, "dimensions": 5}, "dimensions", "invalid_value"),
    ],
)
def test_what_a_flow_of_records_does_not_have_is_refused(
    loaded_records: LoadedModel, task: str, fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        answers(loaded_records, task, **fields)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(
    ("task", "fields", "passes"),
    [("record", {"n": 3}, 12), ("score", {"input": [RECORD, OTHER]}, 2), ("embedding", {"input": RECORD}, 1)],
)
def test_a_record_costs_a_pass_for_each_column_to_draw_and_one_to_read(
    loaded_records: LoadedModel, record_folder: Path, task: str, fields: dict[str, Any], passes: int
) -> None:
    body = REQUESTS[task].model_validate({"model": "tiny-records", **fields})
    rows = loaded_records.tasks[task].prepare(body)
    bound = tiny_record_config(record_folder).cost_bound(body, loaded_records.limits)
    assert bound == sum(row.cost for row in rows) == passes


def test_images_weights_are_refused_for_records_and_records_for_images(folder: Path, record_folder: Path) -> None:
    with pytest.raises(UnsupportedModel):
        load(tiny_config(record_folder), record_folder)
    with pytest.raises(UnsupportedModel):
        load(tiny_record_config(folder), folder)


def test_a_loaded_model_of_records_says_what_it_does(loaded_records: LoadedModel, record_folder: Path) -> None:
    assert set(loaded_records.tasks) == set(tiny_record_config(record_folder).TASKS)
    assert loaded_records.limits == {"columns": 4, "dimensions": 4, "max_batch_size": 256}
    assert loaded_records.memory > 0
