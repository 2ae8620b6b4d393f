from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.families.diffusion.params import ImageParams
from services.families.diffusion.tasks import DECODES, EditTask, ImageTask, InterpolationTask, VariationTask
from services.nn import images
from services.nn.images import EncodedImage
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.schemas.images import (
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    InterpolationRequest,
)
from tests.unit.diffusion.driver import Model
from tests.unit.diffusion.pictures import data_url, gradient, left_half_free

Models = Callable[[str], Model]
PICTURE = data_url(gradient(16, 16))
ENDS = {"start": {"seed": 1, "prompt": "red"}, "end": {"seed": 2, "prompt": "blue"}}


def image(model: Model, **options: Any) -> list[ImageParams]:
    request = {"model": "tiny", "prompt": "red heart", **options}
    return ImageTask(model.drawing).prepare(ImageGenerationRequest.model_validate(request))


def edit(model: Model, **options: Any) -> list[ImageParams]:
    request = {"model": "tiny", "prompt": "red", "image": PICTURE, **options}
    return EditTask(model.drawing).prepare(ImageEditRequest.model_validate(request))


def variation(model: Model, **options: Any) -> list[ImageParams]:
    request = {"model": "tiny", "image": PICTURE, **options}
    return VariationTask(model.drawing).prepare(ImageVariationRequest.model_validate(request))


def frames(model: Model, **options: Any) -> list[ImageParams]:
    request = {"model": "tiny", **ENDS, **options}
    return InterpolationTask(model.drawing).prepare(InterpolationRequest.model_validate(request))


def refused(call: Callable[[], object]) -> tuple[str | None, str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        call()
    return caught.value.param, caught.value.code, caught.value.message


def test_what_a_request_leaves_out_is_as_the_checkpoint_says(emoji: Model) -> None:
    (row,) = image(emoji)
    assert (len(row.table), row.guidance_scale, row.cost) == (20, 3.0, 40.0)
    assert row.prompt.tokens == 2


def test_each_image_draws_from_its_own_seed_and_the_first_from_the_requests(emoji: Model) -> None:
    rows = image(emoji, n=3, seed=5)
    assert [row.seed for row in rows] == [5, image_seed(5, 1), image_seed(5, 2)]
    assert [row.noise_seed for row in rows] == [row.seed for row in rows]
    assert len({row.seed for row in image(emoji, n=3)}) == 3


@pytest.mark.parametrize("size", ["32x32", "16x32", "8x8"])
def test_the_embedded_model_draws_its_own_size_alone(emoji: Model, size: str) -> None:
    param, code, message = refused(lambda: image(emoji, size=size))
    assert (param, code) == ("size", "invalid_value")
    assert message == f"This model draws 16x16 alone (or auto); got {size}."
    assert image(emoji, size="16x16")[0].latent == image(emoji)[0].latent == (3, 16, 16)


@pytest.mark.parametrize(
    ("size", "reason"),
    [("33x32", "multiples of 8"), ("72x64", "at most 4096 pixels")],
)
def test_a_size_that_a_latent_model_cannot_draw_is_refused(models: Models, size: str, reason: str) -> None:
    param, _, message = refused(lambda: image(models("stable_diffusion"), size=size))
    assert param == "size"
    assert reason in message


def test_a_side_beyond_the_models_positions_is_refused(models: Models) -> None:
    param, _, message = refused(lambda: image(models("stable_diffusion_3"), size="72x40"))
    assert (param, "at most 64 pixels" in message) == ("size", True)


def test_an_image_keeps_its_own_size_where_the_model_can_draw_it(models: Models) -> None:
    model = models("stable_diffusion")
    assert edit(model, image=data_url(gradient(48, 40)))[0].latent == (4, 20, 24)
    assert edit(model, image=data_url(gradient(47, 40)))[0].latent == (4, 16, 16)
    assert edit(model, image=data_url(gradient(48, 40)), size="32x40")[0].latent == (4, 20, 16)


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "euler", "dpmpp_2m"])
def test_a_solver_of_noise_does_not_solve_a_flow(emoji: Model, solver: str) -> None:
    param, code, message = refused(lambda: image(emoji, solver=solver))
    assert (param, code) == ("solver", "invalid_value")
    assert "flow_euler" in message


def test_a_solver_of_flows_does_not_solve_noise(models: Models) -> None:
    param, _, message = refused(lambda: image(models("stable_diffusion"), solver="flow_euler"))
    assert (param, "ddim, ddpm, euler, dpmpp_2m" in message) == ("solver", True)


def test_more_steps_than_the_schedule_has_are_refused(models: Models) -> None:
    param, code, message = refused(lambda: image(models("stable_diffusion"), solver="ddim", steps=1000))
    assert (param, code) == ("steps", "invalid_value")
    assert "1000 steps of 'ddim'" in message


def test_an_option_of_another_family_is_refused_by_name(emoji: Model) -> None:
    assert refused(lambda: image(emoji, truncation=0.5))[:2] == ("truncation", "unsupported_parameter")


@pytest.mark.parametrize("option", [{"guidance_scale": 2.0}, {"negative_prompt": "red"}])
def test_a_model_that_cannot_be_guided_refuses_guidance(models: Models, option: dict[str, Any]) -> None:
    param, code, _ = refused(lambda: image(models("ddpm"), prompt="", **option))
    assert (param, code) == (next(iter(option)), "unsupported_parameter")


def test_a_model_without_prompts_refuses_one(models: Models) -> None:
    assert refused(lambda: image(models("ddpm"), prompt="a cat"))[0] == "prompt"
    assert image(models("ddpm"), prompt="")[0].cost == 50


def test_a_negative_prompt_without_guidance_is_refused(emoji: Model) -> None:
    assert refused(lambda: image(emoji, negative_prompt="red", guidance_scale=1.0))[0] == "negative_prompt"


def test_a_prompt_that_says_nothing_takes_no_guidance_since_it_would_change_nothing(emoji: Model) -> None:
    assert image(emoji, prompt="", guidance_scale=5.0)[0].negative is None
    assert image(emoji, prompt="red", guidance_scale=5.0)[0].negative is not None


@pytest.mark.parametrize("kind", ["emoji", "stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3"])
@pytest.mark.parametrize("param", ["prompt", "negative_prompt"])
def test_a_prompt_that_the_model_cannot_read_whole_is_refused(models: Models, kind: str, param: str) -> None:
    got = refused(lambda: image(models(kind), **{param: "red " * 40}))
    assert got[:2] == (param, "context_length_exceeded")


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("zebra", "'zebra'"),
        ("red zebra quokka", "'zebra', 'quokka'"),
        ("❤️", "'❤️'"),
        ("red ❤️", "'❤️'"),
        (" -- ", "'--'"),
        ("q" * 20_000, f"'{'q' * 32}'"),
    ],
)
def test_what_the_embedded_model_does_not_know_is_refused_by_name(emoji: Model, prompt: str, named: str) -> None:
    for param in ("prompt", "negative_prompt"):
        got = refused(lambda name=param: image(emoji, **{name: prompt}))
        assert got == (param, "invalid_value", f"This model knows 7 words; unknown to it: {named}.")
    assert image(emoji, prompt=" \n")[0].prompt == image(emoji, prompt="")[0].prompt


@pytest.mark.parametrize("wrong", [{"size": "8x8"}, {"prompt": "zebra"}, {"solver": "ddim"}, {"truncation": 1.0}])
@pytest.mark.parametrize("make", [edit, variation])
def test_what_can_be_checked_without_its_pixels_is_checked_before_an_image_is_decoded(
    emoji: Model, make: Callable[..., object], wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EncodedImage, "decode", _decoded)
    assert refused(lambda: make(emoji, **wrong))[0] == next(iter(wrong))
    if make is edit:
        assert refused(lambda: edit(emoji, mask=data_url(left_half_free(16, 8))))[0] == "mask"


def _decoded(image: EncodedImage) -> Image.Image:
    raise AssertionError(f"{image.param} was decoded")


def test_images_are_decoded_a_few_at_once(emoji: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, running, most = EncodedImage.decode, Counter[str](), Counter[str]()

    def counted(image: EncodedImage) -> Image.Image:
        running["now"] += 1
        most["ever"] = max(most["ever"], running["now"])
        picture = decode(image)
        running["now"] -= 1
        return picture

    monkeypatch.setattr(EncodedImage, "decode", counted)
    picture = data_url(gradient(512, 512))
    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(variation, emoji, image=picture) for _ in range(16)]:
            future.result()
    assert 1 <= most["ever"] <= DECODES


def test_a_mask_fits_a_picture_that_its_camera_turned(emoji: Model) -> None:
    turned = gradient(16, 8)
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    picture = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert edit(emoji, image=picture, mask=data_url(left_half_free(8, 16)))
    assert refused(lambda: edit(emoji, image=picture, mask=data_url(left_half_free(16, 8))))[2].endswith("got 16x8.")


def test_previews_are_spread_over_the_steps_that_are_taken(emoji: Model) -> None:
    (row,) = image(emoji, steps=20, stream=True, partial_images=3)
    assert row.previews == {5, 10, 15}
    (late,) = variation(emoji, steps=20, strength=0.4, stream=True, partial_images=1)
    assert late.previews == {4}


def test_an_edit_without_strength_draws_what_is_masked_from_nothing_and_else_keeps_a_trace(emoji: Model) -> None:
    (masked,) = edit(emoji, steps=10, mask=data_url(left_half_free(16, 16)))
    (whole,) = edit(emoji, steps=10)
    assert (len(masked.table), masked.starts_from_noise) == (10, True)
    assert (len(whole.table), whole.starts_from_noise) == (8, False)


def test_even_the_least_strength_takes_a_step(emoji: Model) -> None:
    assert len(variation(emoji, steps=10, strength=0.01)[0].table) == 1


def test_a_mask_is_free_where_it_is_transparent(emoji: Model) -> None:
    (row,) = edit(emoji, mask=data_url(left_half_free(16, 16)))
    assert row.mask is not None
    assert row.mask.free[:, :8].all()
    assert not row.mask.free[:, 8:].any()
    assert np.array_equal(row.mask.pixels, np.asarray(gradient(16, 16)))


def test_a_mask_of_another_size_than_the_image_is_refused(emoji: Model) -> None:
    got = refused(lambda: edit(emoji, mask=data_url(left_half_free(16, 8))))
    assert got == ("mask", "invalid_image", "The mask must be as large as the image, 16x16; got 16x8.")


def test_a_mask_that_lets_nothing_change_is_refused(emoji: Model) -> None:
    opaque = left_half_free(16, 16)
    opaque.putalpha(255)
    assert refused(lambda: edit(emoji, mask=data_url(opaque)))[:2] == ("mask", "invalid_image")


@pytest.mark.parametrize("make", [edit, variation])
def test_what_is_no_image_is_refused(emoji: Model, make: Callable[..., object]) -> None:
    assert refused(lambda: make(emoji, image="data:image/png;base64,AAAA"))[:2] == ("image", "invalid_image")


def test_frames_go_from_one_end_to_the_other_in_even_steps(emoji: Model) -> None:
    rows = frames(emoji, frames=5, seed=9)
    assert [row.blend.weight for row in rows if row.blend] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {(row.noise_seed, row.seed) for row in rows} == {(1, 9)}


def test_an_end_that_cannot_be_read_is_named(emoji: Model) -> None:
    far = {"seed": 2, "prompt": "red " * 40}
    assert refused(lambda: frames(emoji, end=far))[0] == "end.prompt"


@pytest.mark.parametrize(("make", "param"), [(image, "n"), (edit, "n"), (variation, "n"), (frames, "frames")])
def test_more_pixels_than_an_answer_holds_are_refused(
    emoji: Model, make: Callable[..., list[ImageParams]], param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = emoji.drawing.checkpoint.canvas.size
    monkeypatch.setattr(images, "MAX_VOLUME", 3 * width * height)
    assert len(make(emoji, **{param: 3})) == 3
    assert refused(lambda: make(emoji, **{param: 4}))[0] == param
