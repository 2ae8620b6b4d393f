"""From requests to rows of images and scores, and what is refused."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.families import LoadedModel
from services.families.pixelcnn.likelihood import class_log_likelihoods, over_classes
from services.families.pixelcnn.params import ImageParams, ScoreParams
from services.families.pixelcnn.pictures import to_values
from services.families.pixelcnn.tasks import GIVEN_CLASS, METRIC, ScoreTask
from services.nn.percentiles import Distribution, Known
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta, Item
from shared.schemas.images import ImageEditRequest, ImageGenerationRequest
from shared.schemas.scores import Score, ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.pixelcnn.tiny import SIDE, data_url, make_model, some_pixels

FREE_BELOW = np.where(np.arange(SIDE)[:, None] < SIDE // 2, 255, 0) * np.ones((SIDE, SIDE))  # black: may change


def image_rows(loaded: LoadedModel, **fields: Any) -> list[ImageParams]:
    request = ImageGenerationRequest.model_validate({"model": "tiny-pixelcnn", "prompt": "0", **fields})
    return list(loaded.tasks["image"].prepare(request))


def edit_rows(loaded: LoadedModel, **fields: Any) -> list[ImageParams]:
    given = {"image": data_url(some_pixels()), "mask": data_url(FREE_BELOW), "prompt": "0"}
    request = ImageEditRequest.model_validate({"model": "tiny-pixelcnn", **given, **fields})
    return list(loaded.tasks["edit"].prepare(request))


def score_rows(loaded: LoadedModel, **fields: Any) -> list[ScoreParams]:
    request = ScoreRequest.model_validate({"model": "tiny-pixelcnn", "input": data_url(some_pixels()), **fields})
    return list(loaded.tasks["score"].prepare(request))


def pictures(loaded: LoadedModel, rows: list[ImageParams]) -> list[Any]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0].pixels for i in range(1, len(rows) + 1)]


def scores(loaded: LoadedModel, rows: list[ScoreParams], task: ScoreTask | None = None) -> list[Score]:
    run = run_rows(loaded.sampler, rows)
    encode = (task or loaded.tasks["score"]).encode
    items = [encode(run.chunks(i)[0]) for i in range(1, len(rows) + 1)]
    assert all(isinstance(item, Item) and item.tokens == 1 for item in items)
    return [Score.model_validate_json(item.json[:-1] + b',"index":0}') for item in items]


def test_each_image_has_a_seed_of_its_own_that_draws_it_again(loaded: LoadedModel) -> None:
    rows = image_rows(loaded, prompt="", seed=11, n=5)
    assert [row.drawing.seed for row in rows] == [image_seed(11, i) for i in range(5)]
    together = pictures(loaded, rows)
    assert not (together[0] == together[1]).all()
    for row, picture in zip(rows, together, strict=True):
        (again,) = image_rows(loaded, prompt="", seed=row.drawing.seed)
        assert again == row
        assert (pictures(loaded, [again])[0] == picture).all()


def test_an_image_costs_its_rows_and_reaches_the_client_as_asked(loaded: LoadedModel) -> None:
    (row,) = image_rows(loaded, seed=5, output_format="webp", output_compression=80)
    run = run_rows(loaded.sampler, [row])
    delta = loaded.tasks["image"].encode(run.chunks(1)[0])
    assert isinstance(delta, ImageDelta)
    assert delta.data[8:12] == b"WEBP"
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (SIDE, SIDE, 5, SIDE, SIDE)
    assert delta.prompt_tokens == 1
    assert run.final(1).units == row.cost == SIDE


def test_previews_are_due_as_often_as_asked(loaded: LoadedModel) -> None:
    (row,) = image_rows(loaded, stream=True, partial_images=2)
    assert row.drawing.previews == {2, 4}
    assert not image_rows(loaded)[0].drawing.previews


def test_a_low_temperature_draws_the_same_whatever_the_seed(loaded: LoadedModel) -> None:
    cold = [pictures(loaded, image_rows(loaded, seed=seed, temperature=1e-6))[0] for seed in (1, 2)]
    assert (cold[0] == cold[1]).all()
    warm = [pictures(loaded, image_rows(loaded, seed=seed, temperature=1.0))[0] for seed in (1, 2)]
    assert not (warm[0] == warm[1]).all()


def test_an_edit_keeps_what_its_mask_keeps_to_the_byte_and_draws_the_rest(loaded: LoadedModel) -> None:
    pixels = some_pixels(3)
    rows = edit_rows(loaded, image=data_url(pixels), n=3, seed=1)
    kept = FREE_BELOW > 0
    drawn = [picture[..., 0] for picture in pictures(loaded, rows)]
    assert all((picture[kept] == pixels[kept]).all() for picture in drawn)
    assert not (drawn[0][~kept] == drawn[1][~kept]).all()
    assert all(set(np.unique(picture[~kept])) <= {0, 85, 170, 255} for picture in drawn)


def test_what_an_edit_keeps_above_bears_on_what_it_draws(loaded: LoadedModel) -> None:
    below = FREE_BELOW == 0
    drawn = [
        pictures(loaded, edit_rows(loaded, image=data_url(np.full((SIDE, SIDE), grey)), seed=2))[0][..., 0][below]
        for grey in (0, 255)
    ]
    assert not (drawn[0] == drawn[1]).all()


def test_an_edit_s_previews_show_what_is_kept(loaded: LoadedModel) -> None:
    pixels = some_pixels(4)
    mask = np.where(np.arange(SIDE)[None] < 2, 0, 255) * np.ones((SIDE, SIDE))
    (row,) = edit_rows(loaded, image=data_url(pixels), mask=data_url(mask), stream=True, partial_images=1)
    state = loaded.sampler.start(row)
    outputs = [loaded.sampler.step([state])[0] for _ in range(SIDE)]
    loaded.sampler.release(state)
    preview = next(output.chunk.chunk for output in outputs if not output.finish_reason and output.chunk)
    assert (preview.pixels[:, 2:, 0] == pixels[:, 2:]).all()
    assert (preview.pixels[preview.step :, :2] == 127).all()


def test_a_mask_s_transparency_says_where_the_image_may_change(loaded: LoadedModel) -> None:
    mask = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
    mask.paste((255, 255, 255, 0), (0, 0, 1, SIDE))
    (row,) = edit_rows(loaded, mask=data_url(np.asarray(mask)))
    assert row.given is not None
    assert ((row.given.values == -1) == (np.arange(SIDE) < 1)).all()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"mask": None}, "mask", "missing_required_parameter"),
        ({"mask": data_url(np.full((SIDE, SIDE), 255))}, "mask", "invalid_image"),
        ({"mask": data_url(np.zeros((SIDE, SIDE + 1)))}, "mask", "invalid_image"),
        ({"image": data_url(np.zeros((SIDE + 1, SIDE)))}, "image", "invalid_image"),
        ({"image": "https://example.com/a.png"}, "image", "invalid_image"),
        ({"strength": 0.5}, "strength", "unsupported_parameter"),
        ({"size": "28x28"}, "size", "invalid_value"),
        ({"prompt": "a dog"}, "prompt", "invalid_value"),
    ],
)
def test_an_edit_that_cannot_be_is_refused(loaded: LoadedModel, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        edit_rows(loaded, **fields)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


@pytest.mark.parametrize(
    "option",
    [{"steps": 10}, {"guidance_scale": 2.0}, {"negative_prompt": "blue"}, {"solver": "ddim"}, {"truncation": 1.0}],
)
def test_an_option_of_other_families_is_refused_by_name(loaded: LoadedModel, option: dict[str, Any]) -> None:
    for rows in (image_rows, edit_rows):
        with pytest.raises(InvalidRequest) as caught:
            rows(loaded, **option)
        assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


def test_a_prompt_that_names_no_class_is_refused_with_the_classes(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="0, 1, Food & Drink") as caught:
        image_rows(loaded, prompt="a dog")
    assert caught.value.param == "prompt"


def test_a_score_is_the_exact_likelihood_of_the_class_or_over_all(loaded: LoadedModel) -> None:
    pixels = some_pixels(7)
    url = data_url(pixels)
    by_class = class_log_likelihoods(make_model().half().float(), to_values(torch.from_numpy(pixels), 4)[None])
    whole, named = scores(loaded, [*score_rows(loaded, input=url), *score_rows(loaded, input=url, prompt="one")])
    assert whole.value == pytest.approx(over_classes(by_class).item(), abs=1e-3)
    assert named.value == pytest.approx(by_class[0, 1].item(), abs=1e-3)
    assert (whole.metric, whole.kind, whole.unit) == ("log_likelihood", "exact", "nats")
    assert whole.bits_per_dimension == pytest.approx(-whole.value / np.log(2) / SIDE**2)
    assert whole.percentile is None
    assert whole.standard_error is None


def test_a_score_s_items_come_in_order_and_cost_their_classes(loaded: LoadedModel) -> None:
    urls = [data_url(some_pixels(seed)) for seed in range(4)]
    rows = score_rows(loaded, input=urls)
    assert [row.cost for row in rows] == [3.0] * 4
    assert [row.cost for row in score_rows(loaded, input=urls, prompt="zero")] == [1.0] * 4
    together = [score.value for score in scores(loaded, rows)]
    alone = [scores(loaded, score_rows(loaded, input=url))[0].value for url in urls]
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_score_s_percentile_is_among_scores_of_its_own_kind(loaded: LoadedModel) -> None:
    low, high = torch.linspace(-1e4, -9e3, 50), torch.linspace(-1.0, 0.0, 50)

    def known(values: torch.Tensor) -> Known:
        return Known(training=Distribution.of(values), held_out=Distribution.of(values))

    task = loaded.tasks["score"]
    assert isinstance(task, ScoreTask)
    compared = ScoreTask(task.greys, {METRIC: known(low), GIVEN_CLASS: known(high)})
    whole, named = scores(loaded, [*score_rows(loaded), *score_rows(loaded, prompt="0")], compared)
    assert whole.percentile is not None
    assert named.percentile is not None
    assert (whole.percentile.held_out, named.percentile.training) == (100.0, 0.0)


def test_greys_are_rounded_to_the_nearest_level() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    values = to_values(pixels, 4)
    nearest = (pixels.double()[:, None] - torch.tensor([0.0, 85.0, 170.0, 255.0])).abs().argmin(1)
    assert torch.equal(values, nearest)
    assert torch.equal(to_values(pixels, 2), (pixels > 127).long())


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"metric": "elbo"}, "metric", "unsupported_metric"),
        ({"samples": 3}, "samples", "unsupported_parameter"),
        ({"prompt": "a dog"}, "prompt", "invalid_value"),
        ({"input": [data_url(some_pixels()), data_url(some_pixels(side=5))]}, "input[1]", "invalid_image"),
        ({"input": [{"age": 3}]}, "input[0]", "invalid_value"),
        ({"input": "a text"}, "input", "invalid_image"),
    ],
)
def test_a_score_that_cannot_be_is_refused(loaded: LoadedModel, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        score_rows(loaded, **fields)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    assert len(json.dumps(caught.value.message)) < 400


def test_the_metric_may_be_named(loaded: LoadedModel) -> None:
    (row,) = score_rows(loaded, metric="log_likelihood")
    assert row.label is None


def test_images_are_encoded_off_the_event_loop_and_scores_on_it(loaded: LoadedModel) -> None:
    assert {name: task.encodes_slowly for name, task in loaded.tasks.items()} == {
        "image": True,
        "edit": True,
        "score": False,
    }


def test_a_picture_is_a_file_of_grey_pixels(loaded: LoadedModel) -> None:
    run = run_rows(loaded.sampler, image_rows(loaded, seed=1))
    delta = loaded.tasks["image"].encode(run.chunks(1)[0])
    with Image.open(io.BytesIO(delta.data)) as picture:
        assert (picture.mode, picture.size) == ("L", (SIDE, SIDE))
        assert (np.asarray(picture) == run.chunks(1)[0].pixels[..., 0]).all()
