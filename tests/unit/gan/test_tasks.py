"""From requests to rows, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from services.families import LoadedModel
from services.families.gan.params import ImageParams
from services.families.gan.sampler import GeneratorPass
from services.families.gan.train import DigitsGan, EmojiGan
from services.nn import images
from services.nn.classes import ClassPrompts, ImageClass
from services.nn.images import Pixels
from services.nn.one_shot import OneShotSampler
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta
from shared.schemas.images import ImageGenerationRequest, InterpolationRequest
from tests.contract.driver import run_rows


def image_rows(loaded: LoadedModel, **fields: Any) -> list[ImageParams]:
    request = ImageGenerationRequest.model_validate({"model": "tiny-gan", "prompt": "0", **fields})
    return list(loaded.tasks["image"].prepare(request))


def frame_rows(loaded: LoadedModel, **fields: Any) -> list[ImageParams]:
    ends = {"start": {"seed": 1, "prompt": "zero"}, "end": {"seed": 2, "prompt": "one"}}
    request = InterpolationRequest.model_validate({"model": "tiny-gan", **ends, **fields})
    return list(loaded.tasks["interpolation"].prepare(request))


def pictures(loaded: LoadedModel, rows: list[ImageParams]) -> list[Pixels]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0].pixels for i in range(1, len(rows) + 1)]


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


def test_without_a_seed_images_differ_from_request_to_request(loaded: LoadedModel) -> None:
    assert image_rows(loaded)[0].drawing.seed != image_rows(loaded)[0].drawing.seed


def test_an_empty_prompt_draws_every_class(loaded: LoadedModel) -> None:
    labels = [row.start.label for row in image_rows(loaded, prompt=" ", seed=0, n=128)]
    assert min(labels.count(label) for label in range(3)) > 20


def test_truncation_scales_the_latent_of_the_same_seed(loaded: LoadedModel) -> None:
    assert isinstance(loaded.sampler, OneShotSampler)
    draw = loaded.sampler.passes["image"]
    assert isinstance(draw, GeneratorPass)
    whole, half = (draw.latent(image_rows(loaded, seed=3, truncation=scale)[0]) for scale in (1.0, 0.5))
    assert np.allclose(whole.numpy() * 0.5, half.numpy())


def test_an_interpolation_starts_and_ends_at_the_images_of_its_ends(loaded: LoadedModel) -> None:
    frames = pictures(loaded, frame_rows(loaded, frames=5))
    assert len(frames) == 5
    for frame, prompt, seed in ((frames[0], "zero", 1), (frames[-1], "one", 2)):
        (alone,) = pictures(loaded, image_rows(loaded, prompt=prompt, seed=seed))
        assert apart(frame, alone) <= 1
    whole = apart(frames[0], frames[-1])
    assert all(0 < apart(*pair) < whole for pair in pairwise(frames))


def test_frames_tell_the_request_s_seed(loaded: LoadedModel) -> None:
    assert {row.drawing.seed for row in frame_rows(loaded, seed=42)} == {42}


def test_an_image_reaches_the_client_as_asked(loaded: LoadedModel) -> None:
    (row,) = image_rows(loaded, seed=5, output_format="webp", output_compression=80)
    run = run_rows(loaded.sampler, [row])
    delta = loaded.tasks["image"].encode(run.chunks(1)[0])
    assert isinstance(delta, ImageDelta)
    assert delta.data[8:12] == b"WEBP"
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (16, 16, 5, 1, 1)
    assert not delta.is_preview
    assert delta.prompt_tokens == 1
    assert run.final(1).units == row.cost == 1.0


def test_images_are_encoded_off_the_event_loop(loaded: LoadedModel) -> None:
    assert all(task.encodes_slowly for task in loaded.tasks.values())


def test_the_model_s_own_size_is_taken_by_name_and_no_other_is(loaded: LoadedModel) -> None:
    assert image_rows(loaded, size="16x16", seed=1) == image_rows(loaded, size="auto", seed=1)
    with pytest.raises(InvalidRequest, match=r"16x16 alone; got 32x16") as caught:
        image_rows(loaded, size="32x16")
    assert (caught.value.param, caught.value.code) == ("size", "invalid_value")


@pytest.mark.parametrize(
    "option", [{"steps": 10}, {"guidance_scale": 2.0}, {"negative_prompt": "blue"}, {"solver": "ddim"}]
)
def test_an_option_of_other_families_is_refused_by_name(loaded: LoadedModel, option: dict[str, Any]) -> None:
    for rows in (image_rows, frame_rows):
        with pytest.raises(InvalidRequest) as caught:
            rows(loaded, **option)
        assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


@pytest.mark.parametrize("scale", [0.0, 2.5, float("nan")])
def test_a_truncation_out_of_range_is_refused(loaded: LoadedModel, scale: float) -> None:
    with pytest.raises(ValidationError):
        image_rows(loaded, truncation=scale)


@pytest.mark.parametrize("prompt", ["seven", "digit", "0 1", "food zero", "&", "a dog"])
def test_a_prompt_that_names_no_single_class_is_refused_with_the_classes(loaded: LoadedModel, prompt: str) -> None:
    with pytest.raises(InvalidRequest, match="0, 1, Food & Drink") as caught:
        image_rows(loaded, prompt=prompt)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "prompt", "invalid_value")


def test_a_refused_end_of_an_interpolation_is_named(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest) as caught:
        frame_rows(loaded, end={"seed": 1, "prompt": "dog"})
    assert caught.value.param == "end.prompt"


def test_a_refusal_repeats_no_more_than_the_start_of_a_prompt(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest) as caught:
        image_rows(loaded, prompt="x" * 30_000)
    assert len(json.dumps(caught.value.message)) < 400


@pytest.mark.parametrize(
    ("prompt", "label"), [("7", 7), ("seven", 7), ("Digit Seven", 7), ("digit 7", 7), (" zero ", 0), ("nine!", 9)]
)
def test_digits_are_asked_for_by_figure_or_by_word(prompt: str, label: int) -> None:
    assert ClassPrompts(DigitsGan().arena.generator.classes, "m").named(prompt, "prompt").label == label


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("Animals & Nature", "Animals & Nature"),
        ("animals and nature", "Animals & Nature"),
        ("animals", "Animals & Nature"),
        ("food", "Food & Drink"),
        ("SYMBOLS", "Symbols"),
        ("places", "Travel & Places"),
    ],
)
def test_emoji_are_asked_for_by_category_or_a_part_of_its_name(prompt: str, name: str) -> None:
    classes = EmojiGan().arena.generator.classes
    label = ClassPrompts(classes, "m").named(prompt, "prompt").label
    assert label is not None
    assert classes[label].name == name


def test_a_whole_name_wins_over_a_longer_one_that_holds_it() -> None:
    prompts = ClassPrompts([ImageClass(name="blue sky"), ImageClass(name="blue")], "m")
    assert prompts.named("blue", "prompt").label == 1


@pytest.mark.parametrize(("make", "param"), [(image_rows, "n"), (frame_rows, "frames")])
def test_more_pixels_than_an_answer_holds_are_refused(
    loaded: LoadedModel, make: Callable[..., list[ImageParams]], param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = pictures(loaded, image_rows(loaded))[0].shape[0]
    monkeypatch.setattr(images, "MAX_VOLUME", 3 * side * side)
    assert len(make(loaded, **{param: 3})) == 3
    with pytest.raises(InvalidRequest) as caught:
        make(loaded, **{param: 4})
    assert caught.value.param == param
