"""From requests to rows, to answers, and what is refused."""

from __future__ import annotations

import base64
import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from services.families import LoadedModel
from services.families.flow.drawing import load_flow
from services.families.flow.model import one_hot
from services.families.flow.params import DrawParams, EmbeddingParams, ScoreParams
from services.families.flow.pixels import dequantisation_noise
from services.nn.images import Pixels
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.images import ImageGenerationRequest, InterpolationRequest
from shared.schemas.scores import ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.flow.tiny import IMAGE, IMAGES, OTHER, SIDE, WIDE


def image_rows(loaded: LoadedModel, **fields: Any) -> list[DrawParams]:
    request = ImageGenerationRequest.model_validate({"model": "tiny-flow", "prompt": "0", **fields})
    return list(loaded.tasks["image"].prepare(request))


def frame_rows(loaded: LoadedModel, **fields: Any) -> list[DrawParams]:
    ends = {"start": {"seed": 1, "prompt": "zero"}, "end": {"seed": 2, "prompt": "one"}}
    request = InterpolationRequest.model_validate({"model": "tiny-flow", **ends, **fields})
    return list(loaded.tasks["interpolation"].prepare(request))


def score_rows(loaded: LoadedModel, **fields: Any) -> list[ScoreParams]:
    request = ScoreRequest.model_validate({"model": "tiny-flow", "input": IMAGE, **fields})
    return list(loaded.tasks["score"].prepare(request))


def embedding_rows(loaded: LoadedModel, **fields: Any) -> list[EmbeddingParams]:
    request = EmbeddingRequest.model_validate({"model": "tiny-flow", "input": IMAGE, **fields})
    return list(loaded.tasks["embedding"].prepare(request))


def answers(loaded: LoadedModel, rows: list[Any]) -> list[dict[str, Any]]:
    run = run_rows(loaded.sampler, rows)
    task = loaded.tasks[rows[0].task]
    return [json.loads(task.encode(run.chunks(i)[0]).json) for i in range(1, len(rows) + 1)]


def pictures(loaded: LoadedModel, rows: list[DrawParams]) -> list[Pixels]:
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


def test_an_empty_prompt_draws_every_class(loaded: LoadedModel) -> None:
    labels = [row.drawing.label for row in image_rows(loaded, prompt=" ", seed=0, n=128)]
    assert min(labels.count(label) for label in range(3)) > 20


def test_temperature_scales_the_latent_of_the_same_seed(loaded: LoadedModel, folder: Any) -> None:
    flow = load_flow(folder)
    for temperature in (1.0, 0.5):
        (drawn,) = pictures(loaded, image_rows(loaded, seed=3, temperature=temperature))
        z = temperature * torch.randn(1, SIDE**2, generator=torch.Generator().manual_seed(3))
        values = flow.inverse(z, one_hot(torch.tensor([0]), 3))[0, 0]
        assert apart(drawn[..., 0], values.clamp(0, 255).numpy().astype(np.uint8)) <= 1


def test_an_interpolation_starts_and_ends_at_the_images_of_its_ends(loaded: LoadedModel) -> None:
    frames = pictures(loaded, frame_rows(loaded, frames=5))
    assert len(frames) == 5
    for frame, prompt, seed in ((frames[0], "zero", 1), (frames[-1], "one", 2)):
        (alone,) = pictures(loaded, image_rows(loaded, prompt=prompt, seed=seed))
        assert apart(frame, alone) <= 1
    assert all(apart(*pair) > 0 for pair in pairwise(frames))


@pytest.mark.parametrize("prompt", ["", "one"])
def test_a_given_end_of_an_interpolation_is_drawn_as_it_is(loaded: LoadedModel, prompt: str) -> None:
    ends = {"start": {"image": IMAGE, "prompt": prompt}, "end": {"image": OTHER}}
    frames = pictures(loaded, frame_rows(loaded, frames=4, **ends))
    for frame, given in zip((frames[0], frames[-1]), IMAGES, strict=True):
        assert apart(frame, given.permute(1, 2, 0).numpy()) == 0
    assert min(apart(frames[1], end) for end in (frames[0], frames[-1])) > 0


def test_frames_tell_the_request_s_seed(loaded: LoadedModel) -> None:
    assert {row.drawing.seed for row in frame_rows(loaded, seed=42)} == {42}


def test_an_image_reaches_the_client_as_asked(loaded: LoadedModel) -> None:
    (row,) = image_rows(loaded, seed=5, output_format="webp", output_compression=80)
    run = run_rows(loaded.sampler, [row])
    delta = loaded.tasks["image"].encode(run.chunks(1)[0])
    assert isinstance(delta, ImageDelta)
    assert delta.data[8:12] == b"WEBP"
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (SIDE, SIDE, 5, 1, 1)
    assert run.final(1).units == row.cost == 1.0


def test_images_are_encoded_off_the_event_loop(loaded: LoadedModel) -> None:
    assert {name for name, task in loaded.tasks.items() if task.encodes_slowly} == {"image", "interpolation"}


def expected_nats(folder: Any, labels: list[int]) -> list[float]:
    flow = load_flow(folder)
    values = (IMAGES[:1] + dequantisation_noise((1, SIDE, SIDE))).expand(len(labels), -1, -1, -1)
    return flow.log_likelihood(values, one_hot(torch.tensor(labels), 3)).tolist()


def test_a_score_is_the_log_likelihood_over_all_classes(loaded: LoadedModel, folder: Any) -> None:
    (score,) = answers(loaded, score_rows(loaded))
    nats = expected_nats(folder, [0, 1, 2])
    whole = math.log(sum(math.exp(value - max(nats)) for value in nats) / 3) + max(nats)
    assert score["value"] == pytest.approx(whole, rel=1e-5)
    assert score["bits_per_dimension"] == pytest.approx(-whole / (SIDE**2 * math.log(2)), rel=1e-5)
    assert (score["object"], score["metric"], score["unit"], score["kind"]) == (
        "score",
        "log_likelihood",
        "nats",
        "exact",
    )
    assert score["standard_error"] is None


def test_a_prompt_scores_given_its_class(loaded: LoadedModel, folder: Any) -> None:
    scores = [answers(loaded, score_rows(loaded, prompt=prompt))[0] for prompt in ("zero", "one", "food")]
    assert [score["value"] for score in scores] == pytest.approx(expected_nats(folder, [0, 1, 2]), rel=1e-5)


def test_the_same_image_has_the_same_score_each_time(loaded: LoadedModel) -> None:
    first, second, third = answers(loaded, score_rows(loaded, input=[IMAGE, OTHER, IMAGE], metric="log_likelihood"))
    assert first["value"] == pytest.approx(third["value"], abs=1e-3)
    assert first["value"] != pytest.approx(second["value"], abs=0.1)


def test_percentiles_compare_with_images_scored_alike(loaded: LoadedModel) -> None:
    """The tiny model's file has likelihoods up to 0, 200 nats lower of held-out images and higher given a class."""
    (over_all,) = answers(loaded, score_rows(loaded))
    (given,) = answers(loaded, score_rows(loaded, prompt="zero"))
    for score, top in ((over_all, 0), (given, 200)):
        share = 100 * (score["value"] - top + 1000) / 1000
        assert score["percentile"]["training"] == pytest.approx(np.clip(share, 0, 100), abs=0.1)
        assert score["percentile"]["held_out"] == pytest.approx(np.clip(share + 20, 0, 100), abs=0.1)
    assert 0 < over_all["percentile"]["training"] < 100


@pytest.mark.parametrize("metric", ["elbo", "energy", "free_energy"])
def test_a_metric_that_a_flow_does_not_have_is_refused(loaded: LoadedModel, metric: str) -> None:
    with pytest.raises(InvalidRequest, match="log_likelihood") as caught:
        score_rows(loaded, metric=metric)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "metric", "unsupported_metric")


@pytest.mark.parametrize("option", [{"samples": 4}])
def test_a_score_draws_nothing_so_its_draws_have_no_options(loaded: LoadedModel, option: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        score_rows(loaded, **option)
    assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


def test_an_embedding_is_the_latent_of_the_likeliest_class(loaded: LoadedModel, folder: Any) -> None:
    (answer,) = answers(loaded, embedding_rows(loaded))
    flow = load_flow(folder)
    values, weights = (IMAGES[:1] + 0.5).expand(3, -1, -1, -1), one_hot(torch.arange(3), 3)
    best = int(flow.log_likelihood(values, weights).argmax())
    assert answer["embedding"] == pytest.approx(flow(values, weights)[0][best].tolist(), abs=1e-3)


def test_an_embedding_is_cut_to_its_coarsest_dimensions(loaded: LoadedModel) -> None:
    (whole,), (cut,) = (answers(loaded, embedding_rows(loaded, dimensions=size)) for size in (None, 4))
    assert len(whole["embedding"]) == SIDE**2
    assert cut["embedding"] == pytest.approx(whole["embedding"][:4], abs=1e-5)
    with pytest.raises(InvalidRequest, match="at most 64") as caught:
        embedding_rows(loaded, dimensions=65)
    assert caught.value.param == "dimensions"


def test_an_embedding_comes_in_base64_as_the_official_client_asks(loaded: LoadedModel) -> None:
    (numbers,), (text,) = (answers(loaded, embedding_rows(loaded, encoding_format=way)) for way in ("float", "base64"))
    assert np.frombuffer(base64.b64decode(text["embedding"]), "<f4") == pytest.approx(numbers["embedding"], abs=1e-5)


@pytest.mark.parametrize("rows", [score_rows, embedding_rows])
def test_what_is_no_image_of_the_model_s_size_is_refused_by_place(loaded: LoadedModel, rows: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"{SIDE}x{SIDE} pixels; got {2 * SIDE}x{SIDE}") as caught:
        rows(loaded, input=[IMAGE, WIDE])
    assert (caught.value.param, caught.value.code) == ("input[1]", "invalid_image")
    with pytest.raises(InvalidRequest) as caught:
        rows(loaded, input={"age": 3})
    assert caught.value.param == "input"


def test_a_given_end_of_another_size_is_refused_by_place(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest) as caught:
        frame_rows(loaded, end={"image": WIDE})
    assert (caught.value.param, caught.value.code) == ("end.image", "invalid_image")


@pytest.mark.parametrize(
    "option", [{"steps": 10}, {"guidance_scale": 2.0}, {"negative_prompt": "blue"}, {"truncation": 0.5}]
)
def test_an_option_of_other_families_is_refused_by_name(loaded: LoadedModel, option: dict[str, Any]) -> None:
    for rows in (image_rows, frame_rows):
        with pytest.raises(InvalidRequest) as caught:
            rows(loaded, **option)
        assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


@pytest.mark.parametrize("scale", [0.0, 2.5, float("nan")])
def test_a_temperature_out_of_range_is_refused(loaded: LoadedModel, scale: float) -> None:
    with pytest.raises(ValidationError):
        image_rows(loaded, temperature=scale)


def test_a_prompt_that_names_no_class_is_refused_where_it_stands(loaded: LoadedModel) -> None:
    for rows, fields, param in (
        (image_rows, {"prompt": "a dog"}, "prompt"),
        (score_rows, {"prompt": "a dog"}, "prompt"),
        (frame_rows, {"end": {"seed": 1, "prompt": "dog"}}, "end.prompt"),
        (frame_rows, {"start": {"image": IMAGE, "prompt": "dog"}}, "start.prompt"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            rows(loaded, **fields)
        assert (caught.value.param, caught.value.code) == (param, "invalid_value")
