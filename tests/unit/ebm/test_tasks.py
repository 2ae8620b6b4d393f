"""From requests to rows, from chunks to events, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from services.families import LoadedModel
from services.families.ebm.model import ANY_CLASS
from services.families.ebm.params import ChainParams, ScoreParams
from services.families.ebm.sampler import EbmSampler
from services.families.ebm.scoring import ScoreChunk
from services.nn.images import Pixels
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta, Item
from shared.schemas.images import ImageGenerationRequest, ImageVariationRequest
from shared.schemas.scores import ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.ebm.tiny import SIDE, picture, pixels_of


def image_rows(loaded: LoadedModel, **fields: Any) -> list[ChainParams]:
    request = ImageGenerationRequest.model_validate({"model": "tiny-ebm", "prompt": "0", **fields})
    return list(loaded.tasks["image"].prepare(request))


def variation_rows(loaded: LoadedModel, **fields: Any) -> list[ChainParams]:
    request = ImageVariationRequest.model_validate({"model": "tiny-ebm", "image": picture(), **fields})
    return list(loaded.tasks["variation"].prepare(request))


def score_rows(loaded: LoadedModel, **fields: Any) -> list[ScoreParams]:
    request = ScoreRequest.model_validate({"model": "tiny-ebm", "input": picture(), **fields})
    return list(loaded.tasks["score"].prepare(request))


def pictures(loaded: LoadedModel, rows: list[ChainParams]) -> list[Pixels]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0].pixels for i in range(1, len(rows) + 1)]


def scores(loaded: LoadedModel, **fields: Any) -> list[dict[str, Any]]:
    rows = score_rows(loaded, **fields)
    run = run_rows(loaded.sampler, rows)
    events = [loaded.tasks["score"].encode(run.chunks(i)[0]) for i in range(1, len(rows) + 1)]
    assert all(isinstance(event, Item) and event.tokens == 1 for event in events)
    return [json.loads(event.json) for event in events]


def apart(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_each_image_has_a_seed_of_its_own_that_draws_it_again(loaded: LoadedModel) -> None:
    rows = image_rows(loaded, prompt="", seed=11, n=4)
    assert [row.drawing.seed for row in rows] == [image_seed(11, i) for i in range(4)]
    together = pictures(loaded, rows)
    assert apart(together[0], together[1]) > 5
    for row, shown in zip(rows, together, strict=True):
        (again,) = image_rows(loaded, prompt="", seed=row.drawing.seed)
        assert again.label == row.label
        assert apart(pictures(loaded, [again])[0], shown) <= 1


def test_an_empty_prompt_draws_every_class(loaded: LoadedModel) -> None:
    labels = [row.label for row in image_rows(loaded, prompt=" ", seed=0, n=128)]
    assert min(labels.count(label) for label in range(3)) > 20


def test_steps_are_sweeps_and_left_out_they_are_the_model_s(loaded: LoadedModel) -> None:
    assert [len(image_rows(loaded, **fields)[0].chain.sweeps) for fields in ({}, {"steps": 3}, {"steps": 1000})] == [
        12,
        3,
        1000,
    ]
    (row,) = image_rows(loaded, steps=8, stream=True, partial_images=3)
    assert row.drawing.steps == 8
    assert row.drawing.previews == {2, 4, 6}


def test_a_variation_starts_from_the_image_and_takes_its_share_of_the_sweeps(loaded: LoadedModel) -> None:
    (usual,) = variation_rows(loaded, steps=20)
    (weak,) = variation_rows(loaded, steps=20, strength=0.01, seed=1)
    assert (len(usual.chain.sweeps), len(weak.chain.sweeps)) == (8, 1)
    assert usual.drawing.steps == 8
    assert usual.source is not None
    assert torch.equal(usual.source, pixels_of())
    sampler = loaded.sampler
    assert isinstance(sampler, EbmSampler)
    state = sampler.start(weak)
    assert (state.x - (pixels_of().float() / 127.5 - 1)).std().item() == pytest.approx(weak.chain.start, rel=0.1)
    sampler.release(state)


def test_a_variation_of_full_strength_keeps_nothing_of_the_image(loaded: LoadedModel) -> None:
    rows = [variation_rows(loaded, image=picture(i), prompt="one", seed=3, strength=1.0)[0] for i in (1, 2)]
    drawn = pictures(loaded, [*rows, *image_rows(loaded, prompt="one", seed=3)])
    assert apart(drawn[0], drawn[1]) <= 1
    assert apart(drawn[0], drawn[2]) <= 1


def test_a_variation_without_a_class_goes_by_the_energy_over_all(loaded: LoadedModel) -> None:
    assert [variation_rows(loaded, prompt=prompt)[0].label for prompt in ("", "one")] == [ANY_CLASS, 1]


def test_an_image_reaches_the_client_as_asked(loaded: LoadedModel) -> None:
    (row,) = image_rows(loaded, seed=5, output_format="webp", output_compression=80)
    run = run_rows(loaded.sampler, [row])
    delta = loaded.tasks["image"].encode(run.chunks(1)[0])
    assert isinstance(delta, ImageDelta)
    assert delta.data[8:12] == b"WEBP"
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (SIDE, SIDE, 5, 12, 12)
    assert delta.prompt_tokens == 1
    assert sum(output.units for output in run.outputs[1]) == pytest.approx(row.cost)


def test_a_score_is_the_energy_of_the_image_over_all_classes_or_of_one(loaded: LoadedModel) -> None:
    sampler = loaded.sampler
    assert isinstance(sampler, EbmSampler)
    energies = sampler.net(pixels_of(4)[None].float() / 127.5 - 1)[0]
    (over_all,) = scores(loaded, input=picture(4))
    (of_one,) = scores(loaded, input=picture(4), prompt="one", metric="energy")
    assert over_all["value"] == pytest.approx(-torch.logsumexp(-energies, 0).item(), rel=1e-5)
    assert of_one["value"] == pytest.approx(energies[1].item(), rel=1e-5)
    assert over_all["value"] <= of_one["value"]
    for score in (over_all, of_one):
        assert (score["metric"], score["kind"], score["unit"]) == ("energy", "unnormalised", "nats")
        assert score["bits_per_dimension"] is None


@pytest.mark.parametrize(
    ("label", "energy", "percent"), [(ANY_CLASS, 250.0, 75.0), (ANY_CLASS, 2000.0, 0.0), (1, 1250.0, 75.0)]
)
def test_a_percentile_is_the_share_of_images_of_a_higher_energy(
    loaded: LoadedModel, label: int, energy: float, percent: float
) -> None:
    event = loaded.tasks["score"].encode(ScoreChunk(energy, label))
    assert json.loads(event.json)["percentile"] == {"training": percent, "held_out": percent}


def test_images_of_a_list_are_scored_in_its_order(loaded: LoadedModel) -> None:
    together = [each["value"] for each in scores(loaded, input=[picture(i) for i in range(3)])]
    alone = [scores(loaded, input=picture(i))[0]["value"] for i in range(3)]
    assert together == pytest.approx(alone, rel=1e-5)
    assert len(set(together)) == 3


def test_images_are_encoded_off_the_event_loop_and_scores_on_it(loaded: LoadedModel) -> None:
    slow = {name: task.encodes_slowly for name, task in loaded.tasks.items()}
    assert slow == {"image": True, "variation": True, "score": False}


@pytest.mark.parametrize(
    "option", [{"truncation": 0.5}, {"guidance_scale": 2.0}, {"negative_prompt": "blue"}, {"solver": "ddim"}]
)
def test_an_option_of_other_families_is_refused_by_name(loaded: LoadedModel, option: dict[str, Any]) -> None:
    for rows in (image_rows, variation_rows):
        with pytest.raises(InvalidRequest) as caught:
            rows(loaded, **option)
        assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


@pytest.mark.parametrize("rows", [image_rows, variation_rows, score_rows])
def test_a_prompt_that_names_no_class_is_refused_with_the_classes(
    loaded: LoadedModel, rows: Callable[..., object]
) -> None:
    with pytest.raises(InvalidRequest, match="0, 1, Food & Drink") as caught:
        rows(loaded, prompt="a dog")
    assert (caught.value.status, caught.value.param) == (400, "prompt")


def test_an_image_of_another_size_is_refused_not_resized(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="16x16 pixels; got 20x20") as caught:
        variation_rows(loaded, image=picture(side=20))
    assert (caught.value.param, caught.value.code) == ("image", "invalid_image")
    with pytest.raises(InvalidRequest, match="got 20x20") as caught:
        score_rows(loaded, input=[picture(), picture(side=20)])
    assert caught.value.param == "input[1]"


def test_another_size_of_what_is_drawn_is_refused(loaded: LoadedModel) -> None:
    for rows in (image_rows, variation_rows):
        with pytest.raises(InvalidRequest, match="16x16 alone; got 32x16") as caught:
            rows(loaded, size="32x16")
        assert caught.value.param == "size"


def test_another_metric_is_refused_with_the_one_there_is(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="it has: energy") as caught:
        score_rows(loaded, metric="log_likelihood")
    assert (caught.value.param, caught.value.code) == ("metric", "unsupported_metric")


@pytest.mark.parametrize("option", [{"samples": 8}])
def test_what_only_an_estimate_has_is_refused_of_an_energy(loaded: LoadedModel, option: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        score_rows(loaded, **option)
    assert (caught.value.param, caught.value.code) == (next(iter(option)), "unsupported_parameter")


def test_a_record_is_no_image(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="must be an image") as caught:
        score_rows(loaded, input={"age": 40})
    assert caught.value.param == "input"
