"""The autoencoder of records: its likelihood, and what clients ask of it."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from pydantic_core import from_json

from services.families import LoadedModel
from services.families.vae.bounds import BOUNDS, log_classes, log_weights
from services.families.vae.family import load
from services.families.vae.record_bulk import draw_records, load_record_vae
from services.families.vae.record_model import RecordVae
from services.families.vae.record_passes import RecordDrawPass, RecordScorePass
from services.nn.errors import UnsupportedModel
from services.nn.one_shot import OneShotSampler
from services.nn.record_tasks import RecordParams
from services.nn.records import Table
from services.nn.rng import row_generator
from services.training.record_data import Draft, RecordSplit, read_record_split, write_record_split
from shared.config.vae import SAMPLES, RecordVaeModel
from shared.errors import InvalidRequest
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest
from shared.schemas.records import RecordGenerationRequest, RecordRow
from shared.schemas.scores import Score, ScoreRequest
from tests.contract.driver import run_rows
from tests.record_tables import make_records
from tests.unit.vae.tiny import make_record_vae, record_config, tiny_config

RECORDS = make_records(3, seed=5)
REQUESTS: dict[str, Any] = {
    "record": RecordGenerationRequest,
    "score": ScoreRequest,
    "reconstruction": ReconstructionRequest,
    "embedding": EmbeddingRequest,
}


def rows_of(loaded: LoadedModel, task: str, **fields: Any) -> list[RecordParams]:
    given = {} if task == "record" else {"input": RECORDS}
    request = REQUESTS[task].model_validate({"model": "tiny-records", **given, **fields})
    return list(loaded.tasks[task].prepare(request))


def answers(loaded: LoadedModel, task: str, **fields: Any) -> list[dict[str, Any]]:
    rows = rows_of(loaded, task, **fields)
    run = run_rows(loaded.sampler, rows)
    return [
        {"index": 0, **from_json(loaded.tasks[task].encode(run.chunks(i)[0]).json)} for i in range(1, len(rows) + 1)
    ]


def vae_of(loaded: LoadedModel) -> RecordVae:
    assert isinstance(loaded.sampler, OneShotSampler)
    found = loaded.sampler.passes["record"]
    assert isinstance(found, RecordDrawPass)
    return found.model


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Two columns of numbers with few values, two of categories."""
    folder = tmp_path_factory.mktemp("small")
    drafts = (
        Draft("a", ""), Draft("b", "", decimals=1), Draft("c", "", (0, 1, 2)), Draft("d", "", ("x", "y")),
    )  # fmt: skip
    draws = torch.Generator().manual_seed(0)
    picks = torch.randint(0, 6, (50, 4), generator=draws).tolist()
    records = [{"a": a, "b": b / 10, "c": c % 3, "d": "xy"[d % 2]} for a, b, c, d in picks]
    write_record_split(folder, drafts, records)
    return read_record_split(folder).table


def test_all_records_of_a_table_have_a_mass_of_one_given_a_latent(small: Table) -> None:
    vae = make_record_vae(small).double()
    every = [{"a": a, "b": b / 10, "c": c, "d": d} for a, b, c, d in product(range(6), range(6), range(3), "xy")]
    data = vae.packed(small.entries(every))
    for seed in range(3):
        latent = torch.randn(1, 4, generator=torch.Generator().manual_seed(seed)).double().expand(len(every), -1)
        assert float(torch.logsumexp(vae.log_likelihood(data, latent), 0)) == pytest.approx(0, abs=1e-5)


def test_drawn_records_are_as_likely_as_the_likelihood_says(small: Table) -> None:
    """The shares of a column's values among draws, against its masses averaged over latents of the prior."""
    vae, count = make_record_vae(small), 6000
    drawn = draw_records(vae, count)
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randint(3, (count,), generator=generator)
    latent = vae.prior.mean[kinds] + vae.prior.log_std[kinds].exp() * torch.randn(count, 4, generator=generator)
    for value in range(6):
        others = [{"a": value, "b": b / 10, "c": c, "d": d} for b, c, d in product(range(6), range(3), "xy")]
        data = vae.packed(small.entries(others))
        mass = sum(float(vae.log_likelihood(row.expand(count, -1), latent).exp().mean()) for row in data)
        share = float((drawn.numbers[:, 0] == value).double().mean())
        assert share == pytest.approx(mass, abs=4 * math.sqrt(mass / count) + 0.01)


def test_records_keep_types_ranges_and_categories(record_loaded: LoadedModel) -> None:
    table = vae_of(record_loaded).config.table
    drawn = [RecordRow.model_validate(each) for each in answers(record_loaded, "record", n=40)]
    for each in drawn:
        assert list(each.record) == [column.name for column in table.columns]
        table.given(each.record, "record")  # raises for what the table does not hold
    assert len({str(each.record) for each in drawn}) > 30


def test_each_record_has_a_seed_of_its_own_that_draws_it_again(record_loaded: LoadedModel) -> None:
    for each in answers(record_loaded, "record", n=4, seed=3):
        (again,) = answers(record_loaded, "record", seed=each["seed"])
        assert again["record"] == each["record"]


def test_a_temperature_scales_the_latent_about_the_mean_of_its_gaussian(
    record_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, seen = vae_of(record_loaded), list[torch.Tensor]()
    decode = vae.decode

    def watched(latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        seen.append(latent)
        return decode(latent)

    monkeypatch.setattr(vae, "decode", watched)
    for temperature in (1.0, 0.5, 0.001):
        answers(record_loaded, "record", n=20, seed=0, temperature=temperature)
    whole, half, none = seen
    assert torch.allclose(half - none, (whole - none) / 2, atol=1e-2)
    assert (whole - none).norm() > 1
    assert len(none.round(decimals=1).unique(dim=0)) == 3, "there are three Gaussians"


def test_a_record_s_score_is_the_bound_of_the_draws_of_its_seed(record_loaded: LoadedModel) -> None:
    vae = vae_of(record_loaded)
    for metric, samples in SAMPLES.items():
        rows = rows_of(record_loaded, "score", metric=metric, seed=2)
        found = [Score.model_validate(each) for each in answers(record_loaded, "score", metric=metric, seed=2)]
        data = vae.packed(vae.config.table.entries(RECORDS))
        noise = [torch.randn(samples, 4, generator=row_generator(row.seed)) for row in rows]
        weights = log_weights(vae, data, log_classes([None] * 3, 1), noise)
        for score, row, each in zip(found, rows, weights, strict=True):
            assert (score.metric, score.kind, score.seed) == (metric, "lower_bound", row.seed)
            assert score.value == pytest.approx(BOUNDS[score.metric](each).value, rel=1e-5)
            assert score.bits_per_dimension is None
            assert (score.standard_error is None) == (metric != "elbo")
            assert (score.percentile is None) == (metric != "elbo")


def test_a_reconstruction_is_a_record_of_the_table(record_loaded: LoadedModel) -> None:
    vae = vae_of(record_loaded)
    table = vae.config.table
    for given, answer in zip(RECORDS, answers(record_loaded, "reconstruction"), strict=True):
        found = Reconstruction.model_validate(answer)
        assert found.record is not None
        assert found.image is None
        entries = [table.entries([each]) for each in (given, found.record)]
        assert found.error == pytest.approx(float(table.error(*entries)[0]))


def test_an_embedding_is_the_mean_of_the_posterior(record_loaded: LoadedModel) -> None:
    vae = vae_of(record_loaded)
    means = vae.encode(vae.packed(vae.config.table.entries(RECORDS))).mean
    for mean, answer in zip(means, answers(record_loaded, "embedding", dimensions=3), strict=True):
        assert answer["embedding"] == pytest.approx(mean[:3].tolist(), abs=1e-5)


def test_a_record_that_the_table_does_not_hold_is_refused_by_its_column(record_loaded: LoadedModel) -> None:
    for task in ("score", "reconstruction", "embedding"):
        with pytest.raises(InvalidRequest) as caught:
            rows_of(record_loaded, task, input=[RECORDS[0], {**RECORDS[1], "town": "nowhere"}])
        assert caught.value.param == "input[1].town"


def test_rows_that_are_not_finite_fail_alone(record_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = vae_of(record_loaded)
    decode = vae.decode

    def spoilt(latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        place, log_scale, logits = decode(latent)
        place = place.clone()
        place[1, 0] = torch.nan
        return place, log_scale, logits

    monkeypatch.setattr(vae, "decode", spoilt)
    assert isinstance(record_loaded.sampler, OneShotSampler)
    for task, fields in (("record", {"n": 3}), ("reconstruction", {})):
        chunks = record_loaded.sampler.passes[task](rows_of(record_loaded, task, **fields))
        assert [chunk is None for chunk in chunks] == [False, True, False]
    scored = RecordScorePass(vae)(rows_of(record_loaded, "score", samples=1))
    assert [chunk is None for chunk in scored] == [False, True, False]


def test_records_are_no_images(record_folder: Any) -> None:
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(tiny_config(record_folder), record_folder)


def test_a_loaded_model_says_what_it_does(record_loaded: LoadedModel, record_folder: Any) -> None:
    assert set(record_loaded.tasks) == set(RecordVaeModel.TASKS)
    assert record_loaded.limits == {"columns": 6, "dimensions": 4, "max_batch_size": 64}
    small, large = (load(record_config(record_folder, max_batch_size=rows), record_folder).memory for rows in (1, 512))
    assert large > small > sum(each.nbytes for each in load_record_vae(record_folder).parameters()) / 2


def test_a_lower_precision_scores_nearly_the_same(record_folder: Any, records: RecordSplit) -> None:
    exact = load_record_vae(record_folder)
    rough = load_record_vae(record_folder).bfloat16()
    data, latent = exact.packed(records.held_out), torch.zeros(len(records.held_out), 4)
    assert torch.allclose(exact.log_likelihood(data, latent), rough.log_likelihood(data, latent), rtol=0.05, atol=1)
