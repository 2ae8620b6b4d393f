"""From requests to images: classes, variations, frames, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from services.families import LoadedModel
from services.families.vae.image_params import DrawParams, Near
from services.families.vae.image_passes import DrawPass
from services.nn.images import Pixels
from services.nn.one_shot import OneShotSampler
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta
from shared.schemas.images import ImageGenerationRequest, ImageVariationRequest, InterpolationRequest
from shared.schemas.reconstructions import ReconstructionRequest
from tests.contract.driver import run_rows
from tests.unit.vae.tiny import SHAPE, SIDE, data_url, make_picture, make_vae

PICTURE, OTHER = data_url(make_picture(1)), data_url(make_picture(2))


def image_rows(loaded: LoadedModel, **fields: Any) -> list[DrawParams]:
    request = ImageGenerationRequest.model_validate({"model": "tiny-vae", "prompt": "0", **fields})
    return list(loaded.tasks["image"].prepare(request))


def variation_rows(loaded: LoadedModel, **fields: Any) -> list[DrawParams]:
    request = ImageVariationRequest.model_validate({"model": "tiny-vae", "image": PICTURE, **fields})
    return list(loaded.tasks["variation"].prepare(request))


def frame_rows(loaded: LoadedModel, **fields: Any) -> list[DrawParams]:
    ends = {"start": {"seed": 1, "prompt": "zero"}, "end": {"seed": 2, "prompt": "one"}}
    request = InterpolationRequest.model_validate({"model": "tiny-vae", **ends, **fields})
    return list(loaded.tasks["interpolation"].prepare(request))


def pictures(loaded: LoadedModel, rows: list[Any]) -> list[Pixels]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0].pixels for i in range(1, len(rows) + 1)]


def reconstructed(loaded: LoadedModel, url: str) -> Pixels:
    request = ReconstructionRequest.model_validate({"model": "tiny-vae", "input": url})
    return pictures(loaded, list(loaded.tasks["reconstruction"].prepare(request)))[0]


def draw_pass(loaded: LoadedModel) -> DrawPass:
    assert isinstance(loaded.sampler, OneShotSampler)
    draw = loaded.sampler.passes["image"]
    assert isinstance(draw, DrawPass)
    return draw


def apart(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_each_image_has_a_seed_of_its_own_that_draws_it_again(loaded: LoadedModel) -> None:
    rows = image_rows(loaded, prompt="", seed=11, n=6)
    assert [row.drawing.seed for row in rows] == [image_seed(11, i) for i in range(6)]
    together = pictures(loaded, rows)
    assert apart(together[0], together[1]) > 5
    for row, picture in zip(rows, together, strict=True):
        (again,) = image_rows(loaded, prompt="", seed=row.drawing.seed)
        assert again == row
        assert apart(pictures(loaded, [again])[0], picture) <= 1


def test_truncation_scales_what_a_seed_draws_about_the_mean_of_its_gaussian(loaded: LoadedModel) -> None:
    draw = draw_pass(loaded)
    prior = draw.model.prior
    seen: set[int] = set()
    for seed in range(8):
        whole, half, none = (
            draw.latents(image_rows(loaded, prompt="one", seed=seed, truncation=scale))[0] for scale in (1, 0.5, 1e-6)
        )
        assert torch.allclose(half - none, (whole - none) / 2, atol=1e-5)
        distances = (prior.mean - none).norm(dim=1)
        assert float(distances.min()) < 1e-4
        seen.add(int(distances.argmin()))
    assert seen == {2, 3}, "a class has two Gaussians, and seeds draw from either"


def test_an_interpolation_starts_and_ends_at_the_images_of_its_ends(loaded: LoadedModel) -> None:
    frames = pictures(loaded, frame_rows(loaded, frames=5))
    for frame, prompt, seed in ((frames[0], "zero", 1), (frames[-1], "one", 2)):
        (alone,) = pictures(loaded, image_rows(loaded, prompt=prompt, seed=seed))
        assert apart(frame, alone) <= 1
    assert all(apart(*pair) > 0 for pair in pairwise(frames))


def test_an_interpolation_of_given_images_starts_and_ends_at_their_reconstructions(loaded: LoadedModel) -> None:
    frames = pictures(loaded, frame_rows(loaded, start={"image": PICTURE}, end={"image": OTHER}, frames=4))
    assert apart(frames[0], reconstructed(loaded, PICTURE)) <= 1
    assert apart(frames[-1], reconstructed(loaded, OTHER)) <= 1
    assert all(apart(*pair) > 0 for pair in pairwise(frames))


def test_an_interpolation_leads_from_an_image_to_what_a_seed_draws(loaded: LoadedModel) -> None:
    frames = pictures(loaded, frame_rows(loaded, start={"image": PICTURE}, frames=2, truncation=0.5))
    assert apart(frames[0], reconstructed(loaded, PICTURE)) <= 1
    (drawn,) = pictures(loaded, image_rows(loaded, prompt="one", seed=2, truncation=0.5))
    assert apart(frames[1], drawn) <= 1


def test_frames_tell_the_request_s_seed(loaded: LoadedModel) -> None:
    assert {row.drawing.seed for row in frame_rows(loaded, seed=42)} == {42}


def test_a_variation_is_the_farther_from_the_image_the_stronger_it_is(loaded: LoadedModel) -> None:
    draw = draw_pass(loaded)
    mean = draw.model.encode(make_picture(1)[None]).mean[0]
    distances = [
        float((torch.stack(draw.latents(variation_rows(loaded, seed=0, n=50, strength=strength))) - mean).norm())
        for strength in (0.05, 0.3, 0.9)
    ]
    assert distances[0] < distances[1] < distances[2]
    nearly = pictures(loaded, variation_rows(loaded, seed=0, strength=1e-6))[0]
    assert apart(nearly, reconstructed(loaded, PICTURE)) <= 1


def test_variations_have_seeds_of_their_own_that_draw_them_again(loaded: LoadedModel) -> None:
    rows = variation_rows(loaded, seed=9, n=3)
    together = pictures(loaded, rows)
    assert apart(together[0], together[1]) > 0
    for row, picture in zip(rows, together, strict=True):
        assert apart(pictures(loaded, variation_rows(loaded, seed=row.drawing.seed))[0], picture) <= 1


def test_variations_of_latents_from_a_gaussian_of_the_prior_stay_of_its_distribution() -> None:
    """Of whatever strength: the step leaves it as it is."""
    draw, count = DrawPass(make_vae(SHAPE.model_copy(update={"components": 1}))), 2000
    prior = draw.model.prior
    mean, std = prior.mean[1], prior.log_std[1].exp()
    start = mean + std * torch.randn(count, len(mean), generator=torch.Generator().manual_seed(0))
    moved = torch.stack(
        [draw.move(Near(make_picture(), 0.6, seed, label=1), each, 1.0) for seed, each in enumerate(start)]
    )
    assert torch.allclose(moved.mean(0), mean, atol=float(5 * std.max() / count**0.5))
    assert torch.allclose(moved.std(0), std, rtol=0.08)


def test_a_prompt_draws_variations_towards_its_class(loaded: LoadedModel) -> None:
    (row,) = variation_rows(loaded, prompt="one")
    (point,) = row.points
    assert isinstance(point, Near)
    assert point.label == 1
    (point,) = variation_rows(loaded)[0].points
    assert isinstance(point, Near)
    assert point.label is None


def test_an_image_reaches_the_client_as_asked(loaded: LoadedModel) -> None:
    (row,) = image_rows(loaded, seed=5, output_format="webp", output_compression=80)
    run = run_rows(loaded.sampler, [row])
    delta = loaded.tasks["image"].encode(run.chunks(1)[0])
    assert isinstance(delta, ImageDelta)
    assert delta.data[8:12] == b"WEBP"
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (SIDE, SIDE, 5, 1, 1)
    assert delta.prompt_tokens == 1
    assert run.final(1).units == row.cost == 1.0


@pytest.mark.parametrize(
    "option", [{"steps": 10}, {"guidance_scale": 2.0}, {"negative_prompt": "blue"}, {"solver": "ddim"}]
)
@pytest.mark.parametrize("rows", [image_rows, variation_rows, frame_rows])
def test_an_option_of_other_families_is_refused_by_name(
    loaded: LoadedModel, rows: Callable[..., list[DrawParams]], option: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rows(loaded, **option)
    assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


def test_a_prompt_that_names_no_class_is_refused_with_the_classes(loaded: LoadedModel) -> None:
    for rows in (image_rows, variation_rows):
        with pytest.raises(InvalidRequest, match="0, 1, Food & Drink") as caught:
            rows(loaded, prompt="a dog")
        assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"start": {"image": PICTURE, "prompt": "zero"}}, "start.prompt"),
        ({"start": {"image": PICTURE}, "end": {"image": OTHER}, "truncation": 0.5}, "truncation"),
        ({"end": {"seed": 1, "prompt": "dog"}}, "end.prompt"),
        ({"end": {"image": data_url(make_picture(side=8))}}, "end.image"),
    ],
)
def test_ends_that_make_no_sense_are_refused(loaded: LoadedModel, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        frame_rows(loaded, **fields)
    assert caught.value.param == param


def test_an_image_of_another_size_is_not_varied(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="must be 16x16 pixels; got 8x8") as caught:
        variation_rows(loaded, image=data_url(make_picture(side=8)))
    assert (caught.value.param, caught.value.code) == ("image", "invalid_image")


def test_a_row_that_is_not_finite_fails_alone(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = draw_pass(loaded).model
    decode = model.decode

    def spoilt(latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        place, log_scale = decode(latent)
        place = place.clone()
        place[1, 0, 3, 3] = torch.nan
        return place, log_scale

    monkeypatch.setattr(model, "decode", spoilt)
    chunks = draw_pass(loaded)(image_rows(loaded, n=3))
    assert [chunk is None for chunk in chunks] == [False, True, False]
