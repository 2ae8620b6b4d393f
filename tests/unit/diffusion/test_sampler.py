from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.families.diffusion import emoji_checkpoint, emoji_sampling
from services.families.diffusion.denoiser import Condition, Denoiser, Prompt
from services.families.diffusion.params import ImageParams
from services.families.diffusion.sampler import DiffusionSampler, SamplerLimits
from services.families.diffusion.state import slerp, start_noise, step_noise
from services.families.diffusion.tasks import EditTask, ImageTask, InterpolationTask, VariationTask
from services.nn.images import to_pixels
from shared.schemas.images import (
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    InterpolationRequest,
)
from tests.unit.diffusion.driver import Model, Trace, load_folder, run
from tests.unit.diffusion.pictures import data_url, gradient, left_half_free

Models = Callable[[str], Model]
KINDS = ("emoji", "stable_diffusion")


def rows(model: Model, **options: object) -> list[ImageParams]:
    request = {"model": "tiny", "prompt": "red heart", "steps": 6, "seed": 7, **options}
    return ImageTask(model.drawing).prepare(ImageGenerationRequest.model_validate(request))


def edit(model: Model, **options: object) -> Trace:
    size = model.checkpoint.canvas.size
    request = {"model": "tiny", "image": data_url(gradient(*size)), "prompt": "red", "seed": 7, "steps": 6, **options}
    (trace,) = run(model.sampler(), EditTask(model.drawing).prepare(ImageEditRequest.model_validate(request)))
    return trace


def frames(model: Model, **options: object) -> list[ImageParams]:
    ends = {"start": {"seed": 1, "prompt": "red"}, "end": {"seed": 2, "prompt": "blue heart"}, "frames": 5}
    request = {"model": "tiny", "seed": 7, "steps": 6, **ends, **options}
    return InterpolationTask(model.drawing).prepare(InterpolationRequest.model_validate(request))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_mask_keeps_is_the_input_to_the_last_bit(models: Models, kind: str) -> None:
    size = models(kind).checkpoint.canvas.size
    trace = edit(models(kind), mask=data_url(left_half_free(*size)), stream=True, partial_images=2)
    given, half = np.asarray(gradient(*size)), size[0] // 2
    for image in (trace.pixels.numpy(), *(preview.pixels for preview in trace.previews)):
        assert np.array_equal(image[:, half:], given[:, half:])
        assert not np.array_equal(image[:, :half], given[:, :half])


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_mask_keeps_is_noised_to_each_steps_level(models: Models, kind: str) -> None:
    """So that what is drawn is drawn beside it: at the last level the latent there is the input's own."""
    model = models(kind)
    size = model.checkpoint.canvas.size
    trace = edit(model, mask=data_url(left_half_free(*size)), solver=model.checkpoint.schedule.solvers[0])
    picture = torch.from_numpy(np.asarray(gradient(*size)).astype(np.float64)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        known = model.checkpoint.denoiser.to_latents(picture.double())[0]
    half = known.shape[-1] // 2
    signal = 1.0 if kind == "emoji" else 0.9995  # this schedule's last level keeps a little noise
    difference = (trace.samples[-1][..., half:] - signal * known[..., half:]).abs().max().item()
    assert difference < (1e-4 if kind == "emoji" else 0.3)
    early = (trace.samples[0][..., half:] - known[..., half:]).abs().max().item()
    assert early > 0.5


def test_strength_says_how_many_steps_are_taken_and_how_near_the_image_stays(emoji: Model) -> None:
    picture = np.asarray(gradient(16, 16)).astype(int)
    distances: list[float] = []
    for strength, taken in ((0.2, 2), (0.6, 6), (1.0, 10)):
        request = ImageVariationRequest(
            model="tiny", image=data_url(gradient(16, 16)), seed=1, steps=10, strength=strength
        )
        (trace,) = run(emoji.sampler(), VariationTask(emoji.drawing).prepare(request))
        assert len(trace.samples) == taken
        distances.append(float(np.abs(trace.pixels.numpy().astype(int) - picture).mean()))
    assert distances == sorted(distances)


def test_an_edit_of_full_strength_keeps_nothing_of_the_image(emoji: Model) -> None:
    whole = edit(emoji, strength=1.0)
    (drawn,) = run(emoji.sampler(), rows(emoji, prompt="red"))
    assert torch.equal(whole.pixels, drawn.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_previews_come_after_the_steps_that_were_asked_for_and_the_image_last(models: Models, kind: str) -> None:
    (params,) = rows(models(kind), steps=8, stream=True, partial_images=3)
    (trace,) = run(models(kind).sampler(), [params])
    assert [(chunk.step, chunk.steps, chunk.is_preview) for chunk in trace.previews] == [
        (2, 8, True),
        (4, 8, True),
        (6, 8, True),
    ]
    assert trace.image is not None
    assert (trace.image.step, trace.image.is_preview, trace.image.seed) == (8, False, 7)


def test_a_preview_is_the_clean_image_that_the_model_predicts(emoji: Model) -> None:
    """Of a flow, x0 = x - sigma v: the sample less the noise that is left, not the sample itself."""
    (params,) = rows(emoji, steps=8, stream=True, partial_images=1)
    (trace,) = run(emoji.sampler(), [params])
    line = params.table.steps[3]
    before, after = trace.samples[2], trace.samples[3]
    velocity = (after - before) / line[6]
    clean = before + line[3] * velocity
    expected = ((clean.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0)
    assert np.abs(trace.previews[0].pixels - expected.numpy()).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_ends_of_an_interpolation_are_the_images_of_their_seeds_and_prompts(models: Models, kind: str) -> None:
    model = models(kind)
    first, *_, last = run(model.sampler(), frames(model))
    for trace, seed, prompt in ((first, 1, "red"), (last, 2, "blue heart")):
        (alone,) = run(model.sampler(), rows(model, seed=seed, prompt=prompt))
        assert torch.equal(trace.pixels, alone.pixels)


def test_frames_between_the_ends_move_from_one_to_the_other(emoji: Model) -> None:
    traces = run(emoji.sampler(), frames(emoji, frames=9))
    images = [trace.pixels.double() for trace in traces]
    hops = [(a - b).abs().mean().item() for a, b in pairwise(images)]
    assert max(hops) < (images[0] - images[-1]).abs().mean().item()
    assert min(hops) > 0


def test_a_way_between_two_noises_keeps_the_norm_of_noise() -> None:
    a, b = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.randn(3, 16, 16)
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)
    assert slerp(a, b, 0.5).norm().item() == pytest.approx((a.norm() + b.norm()).item() / 2, rel=0.05)
    assert torch.equal(slerp(a, a, 0.3), a)


def test_a_seed_is_the_same_noise_whatever_the_model_computes_in_and_each_step_draws_anew(emoji: Model) -> None:
    (params,) = rows(emoji)
    assert start_noise(params).dtype == torch.float32
    assert torch.equal(step_noise(params, 1), step_noise(params, 1))
    draws = [start_noise(params), step_noise(params, 0), step_noise(params, 1), step_noise(rows(emoji, seed=8)[0], 0)]
    assert len({float(draw.sum()) for draw in draws}) == 4


def test_the_embedded_model_draws_what_its_training_draws_from_the_same_seeds(folders: Callable[[str], Path]) -> None:
    """The plain loop that training and evaluation use, in float32: to one level of 255."""
    model, emoji = load_folder(folders("emoji"), torch.float32), emoji_checkpoint.load(folders("emoji"))
    prompts, seeds = ["red heart", "blue"], [7, 8]
    plain = to_pixels(emoji_sampling.draw(emoji.denoiser, emoji.captions, prompts, seeds, steps=6, guidance=3.0))
    params = [rows(model, prompt=prompt, seed=seed)[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    for ours, theirs in zip(run(model.sampler(), params), plain, strict=True):
        assert np.abs(ours.pixels.numpy().astype(int) - theirs.astype(int)).max() <= 1


def test_guidance_of_one_is_the_plain_prediction_and_costs_half(models: Models) -> None:
    model = models("stable_diffusion")
    (plain,), (guided,) = rows(model, guidance_scale=1.0), rows(model, guidance_scale=2.0)
    assert (plain.cost, guided.cost) == (6, 12)
    mute = replace(guided, guidance_scale=1.0)  # goes through both predictions, and takes one
    traces = run(model.sampler(), [plain, guided, mute])
    assert [trace.units for trace in traces] == [6, 12, 12]
    assert (traces[0].samples[-1] - traces[2].samples[-1]).abs().max().item() < 1e-8
    assert (traces[0].samples[-1] - traces[1].samples[-1]).abs().max().item() > 1e-3


def test_latents_are_encoded_and_decoded_one_a_step_and_every_row_ends(models: Models) -> None:
    """A step's length is bounded: rows that wait for the autoencoder do not hold up those that do not."""
    model = models("stable_diffusion")
    assert model.checkpoint.denoiser.images_a_step == 1
    picture = data_url(gradient(*model.checkpoint.canvas.size))
    request = ImageVariationRequest(model="tiny", image=picture, n=3, seed=1, steps=4, strength=0.5)
    sampler = model.sampler()
    states = [sampler.start(params) for params in VariationTask(model.drawing).prepare(request)]
    reasons: dict[int, int] = {}
    for step in range(20):
        live = [state for i, state in enumerate(states) if i not in reasons]
        if not live:
            break
        outputs = sampler.step(live)
        ended = [states.index(state) for state, output in zip(live, outputs, strict=True) if output.finish_reason]
        assert len(ended) <= 1
        reasons |= dict.fromkeys(ended, step)
    assert sorted(reasons) == [0, 1, 2]
    assert [reasons[i] for i in range(3)] == sorted(reasons.values()), "who waits longest is drawn first"


class Reads:
    """A denoiser that notes how many prompts each call reads."""

    def __init__(self, inner: Denoiser, limit: int) -> None:
        self.inner, self.prompts_a_step = inner, limit
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, prompts: Sequence[Prompt]) -> list[Condition]:
        self.calls.append(len(prompts))
        return self.inner.encode(prompts)


def test_a_prompt_is_read_once_while_a_row_that_has_it_runs(emoji: Model) -> None:
    sampler = emoji.sampler()
    sampler.denoiser = reads = Reads(emoji.checkpoint.denoiser, 8)
    first, *others = rows(emoji, n=4)
    running = [sampler.start(first)]
    sampler.step(running)
    for params in others:
        running.append(sampler.start(params))
        sampler.step(running)
    assert reads.calls == [2], "the prompt, and nothing: what guidance leads away from"
    for state in running:
        sampler.release(state)
    sampler.step([sampler.start(first)])
    assert reads.calls == [2, 2], "nothing is kept of rows that ended"


def test_a_step_reads_a_few_prompts_and_every_row_is_drawn_as_alone(emoji: Model) -> None:
    sampler = emoji.sampler()
    sampler.denoiser = reads = Reads(emoji.checkpoint.denoiser, 3)
    many = [rows(emoji, prompt=prompt)[0] for prompt in ("red", "blue", "green", "heart", "apple")]
    together = run(sampler, [*many, *frames(emoji)[2:3]])
    assert sum(reads.calls) == 7, "six prompts and nothing"
    assert max(reads.calls) <= 3
    for params, trace in zip(many, together, strict=False):
        (alone,) = run(emoji.sampler(), [params])
        assert torch.equal(alone.pixels, trace.pixels)


def test_a_row_of_more_prompts_than_a_step_reads_is_read_all_the_same(emoji: Model) -> None:
    sampler = emoji.sampler()
    sampler.denoiser = Reads(emoji.checkpoint.denoiser, 1)
    assert [trace.reason for trace in run(sampler, frames(emoji))] == ["stop"] * 5


def test_a_step_that_fails_keeps_no_prompt(emoji: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = emoji.sampler()
    sampler.denoiser = reads = Reads(emoji.checkpoint.denoiser, 8)
    state = sampler.start(rows(emoji)[0])
    with monkeypatch.context() as patched:
        patched.setattr(sampler, "_denoise", _fails)
        with pytest.raises(RuntimeError, match="injected"):
            sampler.step([state])
    sampler.step([state])
    assert reads.calls == [2, 2]


def _fails(_: object) -> None:
    raise RuntimeError("injected fault")


def test_frames_of_a_solver_that_draws_noise_draw_it_alike_from_the_requests_seed(models: Models) -> None:
    first, *_, last = frames(models("stable_diffusion"), solver="ddpm", seed=9)
    alone = rows(models("stable_diffusion"), solver="ddpm", seed=9)[0]
    for step in range(3):
        draws = [step_noise(params, step) for params in (first, last, alone)]
        assert torch.equal(draws[0], draws[1])
        assert torch.equal(draws[0], draws[2])


def test_a_row_is_admitted_by_the_bytes_of_all_that_run(emoji: Model) -> None:
    (plain,), (guided,) = rows(emoji, guidance_scale=1.0), rows(emoji, guidance_scale=3.0)
    one = emoji.checkpoint.denoiser.memory(plain.latent)
    sampler = DiffusionSampler(emoji.checkpoint.denoiser, 1, SamplerLimits(8, memory=3 * one))
    running = [sampler.start(guided)]
    assert sampler.fits(plain, running)
    assert not sampler.fits(guided, running)


def test_rows_of_every_task_solver_and_setting_share_a_batch_and_sizes_do_not(models: Models) -> None:
    model, sampler = models("stable_diffusion"), models("stable_diffusion").sampler()
    mixed = [rows(model, solver=solver, steps=steps)[0] for solver, steps in (("ddim", 5), ("euler", 9), ("ddpm", 3))]
    assert len({sampler.batch_key(params) for params in [*mixed, *frames(model)]}) == 1
    assert sampler.batch_key(rows(model, size="48x32")[0]) != sampler.batch_key(mixed[0])
