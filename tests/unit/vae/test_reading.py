"""What is said of given images: latents, reconstructions, scores, and what is refused."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic_core import from_json

from services.families import LoadedModel
from services.families.vae.bounds import elbo, log_classes, log_weights
from services.families.vae.image_model import ImageVae
from services.families.vae.image_params import EmbedParams, ReconstructParams, ScoreParams
from services.families.vae.image_passes import EmbedPass, ScorePass
from services.nn.one_shot import OneShotSampler
from services.nn.rng import row_generator
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest
from shared.schemas.scores import Score, ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.vae.tiny import SIDE, data_url, make_picture

PICTURES = [make_picture(seed) for seed in range(3)]
URLS = [data_url(picture) for picture in PICTURES]


def embedding_rows(loaded: LoadedModel, **fields: Any) -> list[EmbedParams]:
    request = EmbeddingRequest.model_validate({"model": "tiny-vae", "input": URLS, **fields})
    return list(loaded.tasks["embedding"].prepare(request))


def reconstruction_rows(loaded: LoadedModel, **fields: Any) -> list[ReconstructParams]:
    request = ReconstructionRequest.model_validate({"model": "tiny-vae", "input": URLS, **fields})
    return list(loaded.tasks["reconstruction"].prepare(request))


def score_rows(loaded: LoadedModel, **fields: Any) -> list[ScoreParams]:
    request = ScoreRequest.model_validate({"model": "tiny-vae", "input": URLS, **fields})
    return list(loaded.tasks["score"].prepare(request))


def answers(loaded: LoadedModel, task: str, rows: list[Any]) -> list[dict[str, Any]]:
    """The JSON of each row's item, without its index."""
    run = run_rows(loaded.sampler, rows)
    events = [loaded.tasks[task].encode(run.chunks(i)[0]) for i in range(1, len(rows) + 1)]
    assert all(isinstance(event, Item) and event.tokens == 1 for event in events)
    return [from_json(event.json) for event in events]


def scores(loaded: LoadedModel, **fields: Any) -> list[Score]:
    return [Score(index=0, **each) for each in answers(loaded, "score", score_rows(loaded, **fields))]


def vae_of(loaded: LoadedModel) -> ImageVae:
    assert isinstance(loaded.sampler, OneShotSampler)
    found = loaded.sampler.passes["embedding"]
    assert isinstance(found, EmbedPass)
    return found.model


def test_an_embedding_is_the_mean_of_the_posterior(loaded: LoadedModel) -> None:
    means = vae_of(loaded).encode(torch.stack(PICTURES)).mean
    for encoding in ("float", "base64"):
        found = [
            each["embedding"] for each in answers(loaded, "embedding", embedding_rows(loaded, encoding_format=encoding))
        ]
        if encoding == "base64":
            found = [np.frombuffer(base64.b64decode(each), dtype="<f4") for each in found]
        assert np.allclose(np.array(found), means.numpy(), atol=1e-5)


def test_an_embedding_is_cut_to_the_dimensions_asked_for(loaded: LoadedModel) -> None:
    whole, cut = (
        answers(loaded, "embedding", embedding_rows(loaded, dimensions=dimensions))[0]["embedding"]
        for dimensions in (None, 2)
    )
    assert cut == pytest.approx(whole[:2], abs=1e-5)
    with pytest.raises(InvalidRequest, match="at most 6; got 7") as caught:
        embedding_rows(loaded, dimensions=7)
    assert caught.value.param == "dimensions"


def test_a_reconstruction_is_an_image_and_tells_its_error(loaded: LoadedModel) -> None:
    items = answers(loaded, "reconstruction", reconstruction_rows(loaded))
    for picture, item in zip(PICTURES, items, strict=True):
        found = Reconstruction(index=0, **item)
        assert found.image is not None
        assert (found.image.width, found.image.height) == (SIDE, SIDE)
        with Image.open(io.BytesIO(base64.b64decode(found.image.b64_json))) as image:
            drawn = np.asarray(image, dtype=np.float64) / 255
        given = picture.permute(1, 2, 0).numpy() / 255
        assert found.error == pytest.approx(float(((drawn - given) ** 2).mean()), abs=1e-9)
        assert found.record is None


def test_a_reconstruction_is_written_as_asked(loaded: LoadedModel) -> None:
    rows = reconstruction_rows(loaded, input=URLS[0], output_format="jpeg", output_compression=50)
    (item,) = answers(loaded, "reconstruction", rows)
    assert base64.b64decode(item["image"]["b64_json"]).startswith(b"\xff\xd8")


def test_a_reconstruction_has_no_steps(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest) as caught:
        reconstruction_rows(loaded, steps=3)
    assert (caught.value.param, caught.value.code) == ("steps", "unsupported_parameter")


def test_a_score_is_the_elbo_of_the_draws_of_its_seed(loaded: LoadedModel) -> None:
    rows = score_rows(loaded, seed=7)
    vae = vae_of(loaded)
    for row, found in zip(rows, scores(loaded, seed=7), strict=True):
        noise = torch.randn(16, 6, generator=row_generator(row.seed))
        (weights,) = log_weights(vae, row.image[None], log_classes([None], 3), [noise])
        bound = elbo(weights)
        assert (found.metric, found.unit, found.kind, found.seed) == ("elbo", "nats", "lower_bound", row.seed)
        assert found.value == pytest.approx(bound.value, rel=1e-5)
        assert found.standard_error == pytest.approx(bound.standard_error, rel=1e-3)
        assert found.bits_per_dimension == pytest.approx(-bound.value / (3 * SIDE**2 * math.log(2)), rel=1e-5)


def test_a_score_s_seed_gives_it_again(loaded: LoadedModel) -> None:
    first = scores(loaded)
    assert len({score.seed for score in first}) == 3
    for url, score in zip(URLS, first, strict=True):
        (again,) = scores(loaded, input=url, seed=score.seed)
        assert again.value == pytest.approx(score.value, rel=1e-6)


def test_the_importance_weighted_bound_is_above_the_elbo_of_the_same_draws(loaded: LoadedModel) -> None:
    for samples in (1, 5, 40):
        below, above = (
            scores(loaded, seed=3, samples=samples, metric=metric) for metric in ("elbo", "importance_weighted_bound")
        )
        for low, high in zip(below, above, strict=True):
            assert high.metric == "importance_weighted_bound"
            assert high.kind == "lower_bound"
            assert high.value >= low.value - 1e-6 * abs(low.value)
            assert high.standard_error is None


def test_given_a_class_the_bounds_make_up_the_one_over_all(loaded: LoadedModel) -> None:
    """By the same draws of one latent: log of the mean of p(x, z | y)."""
    each = [
        scores(loaded, input=URLS[0], seed=1, samples=1, prompt=prompt)[0].value for prompt in ("zero", "one", "food")
    ]
    (over_all,) = scores(loaded, input=URLS[0], seed=1, samples=1)
    assert over_all.value == pytest.approx(
        math.log(sum(math.exp(v - max(each)) for v in each) / 3) + max(each), rel=1e-5
    )


def test_percentiles_are_told_where_known_scores_are_of_the_same_kind(loaded: LoadedModel) -> None:
    (score,) = scores(loaded, input=URLS[0])
    assert score.percentile is not None
    assert 0 <= score.percentile.held_out <= 100
    blank = data_url(torch.full((3, SIDE, SIDE), 255, dtype=torch.uint8))
    assert scores(loaded, input=blank)[0].percentile is not None
    assert scores(loaded, input=URLS[0], prompt="one")[0].percentile is None
    assert scores(loaded, input=URLS[0], metric="importance_weighted_bound", samples=3)[0].percentile is None


def test_a_score_costs_its_draws(loaded: LoadedModel) -> None:
    assert [row.cost for row in score_rows(loaded, samples=9)] == [9.0] * 3
    assert {row.cost for row in score_rows(loaded, metric="importance_weighted_bound")} == {64.0}


@pytest.mark.parametrize("metric", ["log_likelihood", "energy", "free_energy", "pseudo_log_likelihood"])
def test_a_metric_of_other_families_is_refused_with_those_that_there_are(loaded: LoadedModel, metric: str) -> None:
    with pytest.raises(InvalidRequest, match="elbo, importance_weighted_bound") as caught:
        score_rows(loaded, metric=metric)
    assert (caught.value.param, caught.value.code) == ("metric", "unsupported_metric")


@pytest.mark.parametrize("rows", [embedding_rows, reconstruction_rows, score_rows])
def test_what_is_no_image_of_the_model_s_size_is_refused_by_its_place(
    loaded: LoadedModel, rows: Callable[..., list[Any]]
) -> None:
    small = data_url(make_picture(side=8))
    for given, param in (([URLS[0], small], "input[1]"), (small, "input"), ([URLS[0], {"age": 3}], "input[1]")):
        with pytest.raises(InvalidRequest) as caught:
            rows(loaded, input=given)
        assert caught.value.param == param


def test_steps_stay_short_however_many_draws_are_asked_for(loaded: LoadedModel) -> None:
    """Rows of many draws run one after the other; one alone always runs."""
    heavy, light = score_rows(loaded, input=URLS[0], samples=1000)[0], score_rows(loaded, input=URLS[0], samples=2)[0]
    sampler = loaded.sampler
    assert sampler.fits(heavy, [])
    state = sampler.start(heavy)
    try:
        assert not sampler.fits(heavy, [state])
        assert sampler.fits(light, [state])
    finally:
        sampler.release(state)


def test_a_score_that_is_not_finite_fails_alone(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = vae_of(loaded)
    likelihood = vae.log_likelihood

    def spoilt(data: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        nats = likelihood(data, latent).clone()
        nats[(data == PICTURES[1]).flatten(1).all(1)] = torch.nan
        return nats

    monkeypatch.setattr(vae, "log_likelihood", spoilt)
    chunks = ScorePass(vae, {})(score_rows(loaded))
    assert [chunk is None for chunk in chunks] == [False, True, False]


def test_images_are_encoded_off_the_event_loop(loaded: LoadedModel) -> None:
    slow = {name for name, task in loaded.tasks.items() if task.encodes_slowly}
    assert slow == {"image", "variation", "interpolation", "reconstruction"}
