"""From requests to rows and back to answers, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from services.families import LoadedModel
from services.families.boltzmann.params import ChainParams
from services.families.boltzmann.train import DigitsRbm
from services.nn.classes import ClassPrompts
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta, Item
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.images import ImageEditRequest, ImageGenerationRequest
from shared.schemas.reconstructions import ReconstructionRequest
from shared.schemas.scores import ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.boltzmann.tiny import DBM, RBM, data_url, picture

KINDS: dict[str, Any] = {
    "image": ImageGenerationRequest,
    "edit": ImageEditRequest,
    "reconstruction": ReconstructionRequest,
    "embedding": EmbeddingRequest,
    "score": ScoreRequest,
}
FIELDS: dict[str, dict[str, Any]] = {
    "image": {"prompt": "0"},
    "edit": {"prompt": "0", "image": data_url(picture(3))},
}
MASK = torch.tensor([[255, 255, 255], [255, 0, 0], [0, 0, 0]], dtype=torch.uint8)  # black where it may change


def rows_of(loaded: LoadedModel, task: str, **fields: Any) -> list[Any]:
    given = FIELDS.get(task, {"input": data_url(picture(3))})
    request = KINDS[task].model_validate({"model": "tiny-machine", **given, **fields})
    return list(loaded.tasks[task].prepare(request))


def answers(loaded: LoadedModel, task: str, **fields: Any) -> list[dict[str, Any]]:
    rows = rows_of(loaded, task, **fields)
    run = run_rows(loaded.sampler, rows)
    found: list[dict[str, Any]] = []
    for i in range(1, len(rows) + 1):
        event = loaded.tasks[task].encode(run.chunks(i)[0])
        assert isinstance(event, Item)
        found.append(json.loads(event.json))
    return found


def refused(param: str, code: str, make: Callable[[], object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    return caught.value


def test_each_image_is_a_chain_of_its_own_seed_that_draws_it_again(loaded: LoadedModel) -> None:
    rows = rows_of(loaded, "image", prompt="", seed=11, n=6, steps=20)
    assert [row.seed for row in rows] == [image_seed(11, i) for i in range(6)]
    assert all(isinstance(row, ChainParams) and row.cost == 20 for row in rows)
    run = run_rows(loaded.sampler, rows)
    for i, row in enumerate(rows, start=1):
        (again,) = rows_of(loaded, "image", prompt="", seed=row.seed, steps=20)
        assert (run_rows(loaded.sampler, [again]).chunks(1)[0].pixels == run.chunks(i)[0].pixels).all()


def test_an_image_reaches_the_client_with_its_sweeps_counted_as_steps(loaded: LoadedModel) -> None:
    (row,) = rows_of(loaded, "image", seed=5, steps=25, output_format="webp", output_compression=80)
    run = run_rows(loaded.sampler, [row])
    delta = loaded.tasks["image"].encode(run.chunks(1)[0])
    assert isinstance(delta, ImageDelta)
    assert delta.data[8:12] == b"WEBP"
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (3, 3, 5, 25, 25)
    assert run.final(1).units == row.cost == 25


def test_previews_are_spread_over_the_sweeps(loaded: LoadedModel) -> None:
    (row,) = rows_of(loaded, "image", steps=40, stream=True, partial_images=3)
    assert row.previews == {10, 20, 30}


def test_a_request_without_steps_makes_the_configured_sweeps(loaded: LoadedModel) -> None:
    assert rows_of(loaded, "image")[0].sweeps == rows_of(loaded, "edit")[0].sweeps == 200


def test_an_edit_clamps_what_the_mask_keeps(loaded: LoadedModel) -> None:
    (row,) = rows_of(loaded, "edit", mask=data_url(MASK), seed=1, steps=10)
    assert row.origin.known.tolist() == (MASK > 127).flatten().tolist()
    pixels = run_rows(loaded.sampler, [row]).chunks(1)[0].pixels[..., 0]
    kept = (MASK > 127).numpy()
    assert (pixels[kept] == np.where(picture(3).numpy() >= 128, 255, 0)[kept]).all()


def test_an_edit_without_a_mask_starts_from_the_image_and_finds_its_class(loaded: LoadedModel) -> None:
    (row,), (named,) = (rows_of(loaded, "edit", prompt=prompt, seed=1) for prompt in ("", "one"))
    assert row.origin.known is None
    assert row.label is None
    assert named.label == 1
    (masked,) = rows_of(loaded, "edit", prompt="", seed=1, mask=data_url(MASK))
    assert masked.label in range(3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"image": data_url(picture(4))}, "image"),
        ({"image": "https://example.com/a.png"}, "image"),
        ({"mask": data_url(picture(4))}, "mask"),
        ({"mask": data_url(torch.full((3, 3), 255, dtype=torch.uint8))}, "mask"),
    ],
)
def test_a_bad_image_or_mask_is_refused_by_name(loaded: LoadedModel, fields: dict[str, Any], param: str) -> None:
    refused(param, "invalid_image", lambda: rows_of(loaded, "edit", **fields))


@pytest.mark.parametrize("task", ["image", "edit"])
@pytest.mark.parametrize("option", [{"guidance_scale": 2.0}, {"solver": "ddim"}, {"truncation": 0.5}])
def test_an_option_of_other_families_is_refused_by_name(loaded: LoadedModel, task: str, option: dict[str, Any]) -> None:
    refused(next(iter(option)), "unsupported_parameter", lambda: rows_of(loaded, task, **option))


def test_a_strength_is_refused_for_a_chain_goes_by_sweeps(loaded: LoadedModel) -> None:
    refused("strength", "unsupported_parameter", lambda: rows_of(loaded, "edit", strength=0.5))


def test_no_size_but_the_model_s_own_is_drawn(loaded: LoadedModel) -> None:
    refused("size", "invalid_value", lambda: rows_of(loaded, "image", size="28x28"))


@pytest.mark.parametrize("temperature", [0.0, 2.5])
def test_a_temperature_out_of_range_is_refused(loaded: LoadedModel, temperature: float) -> None:
    with pytest.raises(ValidationError):
        rows_of(loaded, "image", temperature=temperature)


@pytest.mark.parametrize("task", ["image", "edit", "score"])
def test_a_prompt_that_names_no_single_class_is_refused_with_the_classes(loaded: LoadedModel, task: str) -> None:
    error = refused("prompt", "invalid_value", lambda: rows_of(loaded, task, prompt="digit"))
    assert "0, 1, Food & Drink" in error.message


def test_digits_are_asked_for_by_figure_or_by_word() -> None:
    prompts = ClassPrompts(DigitsRbm().lesson.shape.classes, "m")
    assert [prompts.named(text, "prompt").label for text in ("7", "seven", "digit 7")] == [7, 7, 7]


def test_a_reconstruction_is_one_pass_whose_error_is_the_distance_to_black_and_white(loaded: LoadedModel) -> None:
    (answer,) = answers(loaded, "reconstruction")
    with Image.open(io.BytesIO(base64.b64decode(answer["image"]["b64_json"]))) as image:
        pixels = np.array(image) / 255
    given = (picture(3).numpy() >= 128).astype(float)
    assert answer["error"] == pytest.approx(np.square(pixels - given).mean(), abs=1e-9)
    assert (answer["metric"], answer["image"]["width"], answer["seed"]) == ("mean_squared_error", 3, None)


def test_a_reconstruction_with_steps_is_a_chain_that_its_seed_makes_again(
    loaded: LoadedModel, deep: LoadedModel
) -> None:
    for model in (loaded, deep):
        images = [data_url(picture(3, seed)) for seed in range(3)]
        whole = answers(model, "reconstruction", input=images, steps=15, seed=4)
        assert [each["seed"] for each in whole] == [image_seed(4, i) for i in range(3)]
        (again,) = answers(model, "reconstruction", input=images[1], steps=15, seed=whole[1]["seed"])
        assert again["image"]["sha256"] == whole[1]["image"]["sha256"]


def test_a_seed_of_what_draws_nothing_changes_nothing(loaded: LoadedModel) -> None:
    for task in ("reconstruction", "score"):
        assert answers(loaded, task) == answers(loaded, task, seed=7)


def test_an_embedding_has_a_number_for_each_hidden_unit_of_all_layers(loaded: LoadedModel, deep: LoadedModel) -> None:
    for model, units in ((loaded, RBM.hidden), (deep, DBM.hidden + DBM.top)):
        (whole,) = answers(model, "embedding")
        assert len(whole["embedding"]) == units
        assert all(0 < value < 1 for value in whole["embedding"])
        (cut,) = answers(model, "embedding", dimensions=2, encoding_format="base64")
        values = np.frombuffer(base64.b64decode(cut["embedding"]), "<f4")
        assert values.tolist() == pytest.approx(whole["embedding"][:2])
        over = units + 1
        refused("dimensions", "invalid_value", lambda m=model, d=over: rows_of(m, "embedding", dimensions=d))


def test_a_score_says_what_it_is(loaded: LoadedModel, deep: LoadedModel) -> None:
    for model, metric, kind in (
        (loaded, "free_energy", "unnormalised"),
        (loaded, "log_likelihood", "estimate"),
        (loaded, "pseudo_log_likelihood", "estimate"),
        (deep, "elbo", "lower_bound"),
    ):
        (answer,) = answers(model, "score", metric=metric)
        assert (answer["metric"], answer["kind"], answer["unit"]) == (metric, kind, "nats")
        assert answer["bits_per_dimension"] is None, "the images have one bit a pixel"
        assert (answer["seed"] is not None) == (metric == "pseudo_log_likelihood")
        assert (answer["standard_error"] is None) == (metric == "free_energy")


def test_the_first_metric_is_the_default_and_an_unknown_one_is_refused(loaded: LoadedModel, deep: LoadedModel) -> None:
    assert [answers(model, "score")[0]["metric"] for model in (loaded, deep)] == ["free_energy", "elbo"]
    error = refused("metric", "unsupported_metric", lambda: rows_of(deep, "score", metric="free_energy"))
    assert "elbo" in error.message
    error = refused("metric", "unsupported_metric", lambda: rows_of(loaded, "score", metric="elbo"))
    assert "free_energy, log_likelihood, pseudo_log_likelihood" in error.message


def test_draws_are_of_pseudo_likelihoods_alone_and_no_more_than_the_pixels(loaded: LoadedModel) -> None:
    def few() -> object:
        return rows_of(loaded, "score", metric="log_likelihood", samples=5)

    refused("samples", "unsupported_parameter", few)
    refused("samples", "invalid_value", lambda: rows_of(loaded, "score", metric="pseudo_log_likelihood", samples=10))
    row, more = (
        rows_of(loaded, "score", metric="pseudo_log_likelihood", samples=samples, seed=3)[0] for samples in (4, 9)
    )
    assert (row.samples, row.seed) == (4, 3)
    assert more.cost > row.cost


@pytest.mark.parametrize("task", ["reconstruction", "embedding", "score"])
def test_an_image_of_another_size_is_refused_with_its_place(loaded: LoadedModel, task: str) -> None:
    images = [data_url(picture(3)), data_url(picture(4))]
    refused("input[1]", "invalid_image", lambda: rows_of(loaded, task, input=images))
