"""Images, the whole way: from the official client to the models and back."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from tests.image_checkpoints import DIGIT_SIZE, EMOJI_SIZE
from tests.integration.conftest import LocalFleet

CROWD = 8
PROMPT = "red heart"
LONG = {"steps": 800, "guidance_scale": 1.0, "seed": 1}  # outlives what the tests do meanwhile
STEPS = ("castalia_row_steps_total", "castalia_steps_total")


@pytest.fixture
def client(local_fleet: LocalFleet) -> Iterator[openai.OpenAI]:
    with local_fleet.openai() as client:
        yield client


def draw(client: openai.OpenAI, model: str = "emoji", prompt: str = PROMPT, n: int = 1, **options: Any) -> Any:
    """The answer's data: its extra fields are attributes too."""
    answer = client.images.generate(model=model, prompt=prompt, n=n, extra_body=options)
    assert answer.data is not None
    return answer.data


def pixels(image: Any) -> Any:
    """int16 (H, W, C), so that differences do not wrap."""
    with Image.open(io.BytesIO(base64.b64decode(image.b64_json))) as opened:
        return np.asarray(opened.convert("RGB"), dtype=np.int16)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def busy(fleet: LocalFleet, rows: int, model: str = "emoji") -> None:
    while fleet.metric("castalia_running_rows", model=model) < rows:
        pass


def test_a_seed_makes_any_image_of_an_answer_again(client: openai.OpenAI) -> None:
    first, second = draw(client, n=2, seed=3, steps=4)
    again = draw(client, seed=second.seed, steps=4)[0]
    assert (first.seed, first.sha256 == second.sha256) == (3, False)
    assert np.abs(pixels(again) - pixels(second)).max() <= 1  # a batch of one rounds otherwise than one of two
    assert draw(client, seed=3, steps=4)[0].sha256 == draw(client, seed=3, steps=4)[0].sha256


def test_a_stream_shows_previews_and_ends_with_the_same_image(client: openai.OpenAI) -> None:
    options = {"seed": 3, "steps": 60}
    events = list(
        client.images.generate(model="emoji", prompt=PROMPT, stream=True, partial_images=3, extra_body=options)
    )
    *previews, last = events
    assert last.type == "image_generation.completed"
    assert {event.type for event in previews} == {"image_generation.partial_image"}
    assert [event.partial_image_index for event in previews] == list(range(len(previews)))
    steps = [event.model_extra["step"] for event in previews]
    assert steps == sorted(steps)
    assert set(steps) <= {15, 30, 45}
    assert last.model_extra["sha256"] == draw(client, **options)[0].sha256


def test_an_edit_leaves_what_the_mask_keeps_as_it_was(client: openai.OpenAI) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (EMOJI_SIZE, EMOJI_SIZE, 3), dtype=np.uint8)
    mask = Image.new("RGBA", (EMOJI_SIZE, EMOJI_SIZE), (0, 0, 0, 0))
    mask.paste((0, 0, 0, 255), (0, 0, EMOJI_SIZE // 2, EMOJI_SIZE))
    answer = client.images.edit(
        model="emoji",
        prompt=PROMPT,
        image=("i.png", png(Image.fromarray(noise))),
        mask=("m.png", png(mask)),
        extra_body={"seed": 1, "steps": 4},
    )
    assert answer.data is not None
    edited = pixels(answer.data[0])
    half = EMOJI_SIZE // 2
    assert np.array_equal(edited[:, :half], noise[:, :half])
    assert not np.array_equal(edited[:, half:], noise[:, half:])


def test_variations_are_nearer_to_their_image_than_others_are(client: openai.OpenAI) -> None:
    original = draw(client, seed=3, steps=8)[0]
    with pytest.warns(DeprecationWarning, match="deprecated"):  # the client's own
        answer = client.images.create_variation(
            model="emoji",
            image=base64.b64decode(original.b64_json),
            n=2,
            response_format="b64_json",
            extra_body={"seed": 9, "strength": 0.1, "steps": 20},
        )
    assert answer.data is not None
    other = draw(client, prompt="green square", seed=4, steps=8)[0]
    distance = np.abs(pixels(other) - pixels(original)).mean()
    assert all(0 < np.abs(pixels(image) - pixels(original)).mean() < distance for image in answer.data)


@pytest.mark.parametrize(("model", "prompts"), [("emoji", ("red heart", "blue circle")), ("digits", ("3", "7"))])
def test_an_interpolation_runs_from_one_image_to_the_other(
    local_fleet: LocalFleet, client: openai.OpenAI, model: str, prompts: tuple[str, str]
) -> None:
    ends = [{"seed": 1, "prompt": prompts[0]}, {"seed": 2, "prompt": prompts[1]}]
    options = {"steps": 8} if model == "emoji" else {}
    with local_fleet.http() as http:
        body = {"model": model, "start": ends[0], "end": ends[1], "frames": 3, **options}
        answer = http.post("/v1/interpolations", json=body).raise_for_status().json()
    assert [frame["position"] for frame in answer["frames"]] == [0, 0.5, 1]
    assert len({frame["sha256"] for frame in answer["frames"]}) == 3
    for frame, end in ((answer["frames"][0], ends[0]), (answer["frames"][2], ends[1])):
        (alone,) = draw(client, model, str(end["prompt"]), seed=end["seed"], **options)
        frame_pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(frame["b64_json"]))).convert("RGB"))
        assert np.abs(frame_pixels.astype(np.int16) - pixels(alone)).max() <= 1


def test_a_class_of_digits_is_drawn_in_every_format(client: openai.OpenAI) -> None:
    for kind in ("png", "jpeg", "webp"):
        answer = client.images.generate(model="digits", prompt="7", n=3, output_format=kind, extra_body={"seed": 1})
        assert answer.data is not None
        assert (answer.output_format, answer.size, len(answer.data)) == (kind, f"{DIGIT_SIZE}x{DIGIT_SIZE}", 3)
        with Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or ""))) as image:
            assert (image.format, image.size) == (kind.upper(), (DIGIT_SIZE, DIGIT_SIZE))


def test_an_image_is_the_same_alone_and_among_others(local_fleet: LocalFleet, client: openai.OpenAI) -> None:
    options = {"seed": 5, "steps": 20, "guidance_scale": 2.0}
    alone = draw(client, **options)[0]
    assert draw(client, **options)[0].sha256 == alone.sha256
    with ThreadPoolExecutor(1) as pool:
        crowd = pool.submit(draw, client, n=CROWD, **LONG)
        busy(local_fleet, CROWD)
        among = draw(client, **options)[0]
        assert not crowd.done(), "the others ended first, so the test proves nothing"
        assert len(crowd.result()) == CROWD
    assert np.abs(pixels(among) - pixels(alone)).max() <= 1  # float32 rounds otherwise in a larger batch


def test_requests_that_differ_in_everything_share_a_batch(local_fleet: LocalFleet, client: openai.OpenAI) -> None:
    asked = [(10, 1.0), (20, 2.5), (50, 4.0)]
    with ThreadPoolExecutor(4) as pool:
        crowd = pool.submit(draw, client, n=CROWD, **LONG)
        busy(local_fleet, CROWD)
        before = local_fleet.metrics(*STEPS, model="emoji")
        images = [pool.submit(draw, client, steps=steps, guidance_scale=scale, seed=2) for steps, scale in asked]
        assert [image.result()[0].steps for image in images] == [10, 20, 50]
        after = local_fleet.metrics(*STEPS, model="emoji")
        assert not crowd.done(), "the others ended first, so the test proves nothing"
        crowd.result()
    row_steps, steps = (late - early for late, early in zip(after, before, strict=True))
    assert row_steps / steps > CROWD, "steps of their own would have brought the mean occupancy under the crowd's"


def test_requests_of_every_solver_share_a_batch_and_none_changes_another(
    local_fleet: LocalFleet, client: openai.OpenAI
) -> None:
    solvers = {"ddim": 10, "euler": 20, "ddpm": 50, "dpmpp_2m": 20}
    asked: list[dict[str, Any]] = [
        {"solver": solver, "steps": steps, "seed": seed} for seed, (solver, steps) in enumerate(solvers.items())
    ]
    alone = [draw(client, "latent", **options)[0] for options in asked]
    with ThreadPoolExecutor(1 + len(asked)) as pool:
        crowd = pool.submit(draw, client, "latent", n=CROWD, **LONG)
        busy(local_fleet, CROWD, "latent")
        before = local_fleet.metrics(*STEPS, model="latent")
        drawing = [pool.submit(draw, client, "latent", **options) for options in asked]
        images = [each.result()[0] for each in drawing]
        after = local_fleet.metrics(*STEPS, model="latent")
        assert not crowd.done(), "the others ended first, so the test proves nothing"
        crowd.result()
    assert [image.steps for image in images] == list(solvers.values())
    row_steps, steps = (late - early for late, early in zip(after, before, strict=True))
    assert row_steps / steps > CROWD, "steps of their own would have brought the mean occupancy under the crowd's"
    for image, single in zip(images, alone, strict=True):
        assert np.abs(pixels(image) - pixels(single)).max() <= 1  # float32 rounds otherwise in a larger batch
    assert len({single.sha256 for single in alone}) == len(alone)


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        ("emoji", {"size": "64x64"}, "size"),
        ("emoji", {"truncation": 0.5}, "truncation"),
        ("emoji", {"solver": "ddim"}, "solver"),
        ("digits", {"steps": 10}, "steps"),
        ("digits", {"prompt": "a cat"}, "prompt"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(
    local_fleet: LocalFleet, model: str, fields: dict[str, Any], param: str
) -> None:
    prompt = PROMPT if model == "emoji" else "7"
    with local_fleet.http() as http:
        response = http.post("/v1/images/generations", json={"model": model, "prompt": prompt, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "image",
    [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40), b"GIF89a" + bytes(40), png(Image.new("L", (8, 8)))[:45]],
)
def test_an_image_that_cannot_be_decoded_is_refused(client: openai.OpenAI, image: bytes) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model="emoji", prompt=PROMPT, image=("i.png", image))
    assert (caught.value.code, caught.value.param) == ("invalid_image", "image")


def test_a_task_that_a_family_does_not_do_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model="digits", prompt="7", image=("i.png", png(Image.new("L", (8, 8)))))
    assert caught.value.code == "unsupported_task"


def test_a_client_that_goes_away_frees_its_images(local_fleet: LocalFleet, client: openai.OpenAI) -> None:
    stream = client.images.generate(
        model="emoji", prompt=PROMPT, n=4, stream=True, partial_images=16, extra_body={"steps": 1000}
    )
    next(iter(stream))
    assert local_fleet.metric("castalia_running_rows", model="emoji") == 4
    stream.close()
    while local_fleet.metric("castalia_running_rows", model="emoji"):
        pass
    assert local_fleet.metric("castalia_finished_rows_total", model="emoji", reason="abort") >= 1
