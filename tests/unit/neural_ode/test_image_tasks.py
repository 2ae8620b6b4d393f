"""From requests about images to rows, what comes back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from services.families import LoadedModel
from services.families.neural_ode.images.params import ImageParams, ScoreParams
from services.families.neural_ode.images.sampler import ScoreChunk
from services.nn.images import Pixels
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta, Item
from shared.schemas.images import ImageGenerationRequest, InterpolationRequest
from shared.schemas.scores import ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.diffusion.pictures import data_url, gradient


def image_rows(loaded: LoadedModel, **fields: Any) -> list[ImageParams]:
    request = ImageGenerationRequest.model_validate({"model": "tiny", "prompt": "0", **fields})
    return list(loaded.tasks["image"].prepare(request))


def frame_rows(loaded: LoadedModel, **fields: Any) -> list[ImageParams]:
    ends = {"start": {"seed": 1, "prompt": "zero"}, "end": {"seed": 2, "prompt": "one"}}
    request = InterpolationRequest.model_validate({"model": "tiny", **ends, **fields})
    return list(loaded.tasks["interpolation"].prepare(request))


def score_rows(loaded: LoadedModel, **fields: Any) -> list[ScoreParams]:
    request = ScoreRequest.model_validate({"model": "tiny", "input": grey(), **fields})
    return list(loaded.tasks["score"].prepare(request))


def grey(width: int = 8, height: int = 8) -> str:
    return data_url(gradient(width, height).convert("L"))


def pictures(loaded: LoadedModel, rows: list[ImageParams]) -> list[Pixels]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0].pixels for i in range(1, len(rows) + 1)]


def score(loaded: LoadedModel, row: ScoreParams) -> ScoreChunk:
    return run_rows(loaded.sampler, [row]).chunks(1)[0]


def score_body(loaded: LoadedModel, row: ScoreParams) -> dict[str, Any]:
    item = loaded.tasks["score"].encode(score(loaded, row))
    assert isinstance(item, Item)
    return json.loads(item.json)


def apart(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_each_image_has_a_seed_of_its_own_that_draws_it_again(images: LoadedModel) -> None:
    rows = image_rows(images, prompt="", seed=11, n=4)
    assert [row.drawing.seed for row in rows] == [image_seed(11, i) for i in range(4)]
    together = pictures(images, rows)
    assert apart(together[0], together[1]) > 5
    for row, picture in zip(rows, together, strict=True):
        (again,) = image_rows(images, prompt="", seed=row.drawing.seed)
        assert again == row
        assert apart(pictures(images, [again])[0], picture) <= 1


def test_steps_and_temperature_are_as_asked_or_the_model_s_own(images: LoadedModel) -> None:
    own, asked = image_rows(images)[0], image_rows(images, steps=3, temperature=0.5)[0]
    assert (own.steps, own.temperature, own.cost) == (10, 1.0, 20.0)
    assert (asked.steps, asked.temperature, asked.cost) == (3, 0.5, 6.0)
    assert frame_rows(images, steps=3, temperature=0.5)[0].temperature == 0.5


def test_an_interpolation_starts_and_ends_at_the_images_of_its_ends(images: LoadedModel) -> None:
    frames = pictures(images, frame_rows(images, frames=3, seed=42))
    for frame, prompt, seed in ((frames[0], "zero", 1), (frames[-1], "one", 2)):
        (alone,) = pictures(images, image_rows(images, prompt=prompt, seed=seed))
        assert apart(frame, alone) <= 1
    assert all(apart(frames[1], end) > 1 for end in (frames[0], frames[-1]))
    assert {row.drawing.seed for row in frame_rows(images, seed=42)} == {42}


def test_an_image_reaches_the_client_as_asked_after_its_previews(images: LoadedModel) -> None:
    (row,) = image_rows(images, seed=5, steps=8, stream=True, partial_images=3, output_format="webp")
    assert row.drawing.previews == {2, 4, 6}
    run = run_rows(images.sampler, [row])
    previews = [output.chunk for output in run.outputs[1] if output.chunk is not None][:-1]
    assert [preview.chunk.step for preview in previews] == [2, 4, 6]
    delta = images.tasks["image"].encode(run.chunks(1)[0])
    assert isinstance(delta, ImageDelta)
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (8, 8, 5, 8, 8)
    assert delta.data[8:12] == b"WEBP"
    assert run.final(1).units == row.cost == 16


@pytest.mark.parametrize(
    "option", [{"guidance_scale": 2.0}, {"negative_prompt": "one"}, {"solver": "euler"}, {"truncation": 0.5}]
)
def test_an_option_of_other_families_is_refused_by_name(images: LoadedModel, option: dict[str, Any]) -> None:
    for rows in (image_rows, frame_rows):
        with pytest.raises(InvalidRequest) as caught:
            rows(images, **option)
        assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


def test_another_size_and_an_unknown_class_are_refused(images: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match=r"8x8 alone; got 16x16"):
        image_rows(images, size="16x16")
    with pytest.raises(InvalidRequest, match="0, 1, 2") as caught:
        image_rows(images, prompt="seven")
    assert caught.value.param == "prompt"


def test_a_score_says_what_it_is(images: LoadedModel) -> None:
    (row,) = score_rows(images, seed=3, samples=2)
    body = score_body(images, row)
    assert (body["metric"], body["unit"], body["kind"], body["seed"]) == ("log_likelihood", "nats", "estimate", 3)
    assert body["standard_error"] > 0
    assert body["bits_per_dimension"] == pytest.approx(-body["value"] / 64 / np.log(2))
    assert 0 <= body["percentile"]["training"] <= 100
    assert body["percentile"]["held_out"] != body["percentile"]["training"]


def test_one_draw_has_no_standard_error_and_a_class_no_percentile(images: LoadedModel) -> None:
    body = score_body(images, score_rows(images, seed=3, samples=1, prompt="one")[0])
    assert body["standard_error"] is None
    assert body["percentile"] is None
    free, given = (score(images, score_rows(images, seed=3, samples=1, prompt=prompt)[0]) for prompt in ("", "one"))
    assert free.value != given.value


def test_a_score_s_seed_gives_this_very_estimate_again(images: LoadedModel) -> None:
    rows = score_rows(images, input=[grey(), grey()], samples=2)
    first, second = (score(images, row) for row in rows)
    assert first.value != second.value, "items draw for themselves"
    (again,) = score_rows(images, seed=second.seed, samples=2)
    assert score(images, again) == second


def test_a_score_costs_its_samples_and_steps(images: LoadedModel) -> None:
    (row,) = score_rows(images, samples=5)
    assert row.cost == 5 * 16 * 2 * 3
    run = run_rows(images.sampler, [row])
    assert run.final(1).units == row.cost


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"metric": "energy"}, "metric", "unsupported_metric"),
        ({"samples": 33}, "samples", "invalid_value"),
        ({"prompt": "seven"}, "prompt", "invalid_value"),
        ({"input": [grey(), grey(4)]}, "input[1]", "invalid_image"),
        ({"input": "data:text/plain;base64,AAAA"}, "input", "invalid_image"),
        ({"input": {"age": 3}}, "input", "invalid_value"),
    ],
)
def test_a_score_that_cannot_be_is_refused(images: LoadedModel, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        score_rows(images, **fields)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"steps": 1001}, {"temperature": 0.0}, {"temperature": 2.5}])
def test_options_out_of_range_are_refused(images: LoadedModel, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        image_rows(images, **fields)
