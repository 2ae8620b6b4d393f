"""Frames that are drawn with queues are what the network over whole clips says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from services.families.autoregressive.frames import DrawnFrames, FrameOrder, draw_frames, nothing_heard
from services.families.autoregressive.model import Clips, WaveNet
from services.families.autoregressive.mulaw import CODES
from tests.unit.autoregressive.tiny import WORDS, make_model

FRAMES, STEPS, COUNT = 5, 6, 3  # 30 frames: farther than the farthest dilation
TEMPERATURES = torch.tensor([1.0, 0.5, 1.7], dtype=torch.float64)


def noise(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    waits = torch.empty(FRAMES, COUNT, WORDS.frame, CODES, dtype=torch.float64).exponential_(generator=generator)
    return -waits.log(), torch.rand(COUNT, FRAMES, dtype=torch.float64, generator=generator)


def drawn(model: WaveNet) -> tuple[list[list[DrawnFrames]], list[Tensor]]:
    """Steps of three clips together, and the noise of each."""
    heard, steps, noises = [nothing_heard(model)] * COUNT, [], []
    for step in range(STEPS):
        gumbel, uniform = noise(step)
        order = FrameOrder(
            heard, torch.arange(COUNT), torch.full((COUNT,), step * FRAMES), TEMPERATURES, gumbel, uniform
        )
        steps.append(draw_frames(model, order))
        heard = [each.heard for each in steps[-1]]
        noises.append(gumbel)
    return steps, noises


def test_queues_give_the_codes_that_the_whole_network_gives() -> None:
    """Each code is the largest of the whole network's logits with the noise that it was drawn by."""
    model = make_model().double()
    steps, noises = drawn(model)
    codes = torch.stack([torch.cat([step[i].codes for step in steps]).flatten() for i in range(COUNT)])
    clips = Clips(codes, torch.full((COUNT,), FRAMES * STEPS), torch.arange(COUNT))
    logits = model(clips).codes.view(COUNT, FRAMES * STEPS, WORDS.frame, CODES)
    gumbel = torch.cat(noises).transpose(0, 1)  # (COUNT, frames, frame, 256)
    expected = (logits + gumbel * TEMPERATURES[:, None, None, None]).argmax(3)
    assert torch.equal(expected.flatten(1), codes)
    assert len(codes.unique()) > 50


def test_an_end_comes_as_often_as_the_network_says() -> None:
    """And is where the first number in [0, 1) is below its chance, which the temperature bends."""
    model = make_model(end=-1.5).double()
    steps, _ = drawn(model)
    for step, frames in enumerate(steps):
        _, uniform = noise(step)
        for i, got in enumerate(frames):
            codes = torch.cat([each[i].codes for each in steps[: step + 1]])
            clips = Clips(codes.reshape(1, -1), torch.tensor([len(codes)]), torch.tensor([i]))
            ends = model(clips).end[0, step * FRAMES : (step + 1) * FRAMES]
            below = (uniform[i] < (ends / TEMPERATURES[i]).sigmoid()).tolist()
            assert got.ended_at == (below.index(True) if True in below else FRAMES)
    assert {got.ended_at for frames in steps for got in frames} >= {FRAMES, 0}


def test_a_clip_whose_values_are_not_finite_is_told_from_the_others() -> None:
    model = make_model()
    gumbel, uniform = noise(0)
    heard = [nothing_heard(model) for _ in range(COUNT)]
    heard[1] = replace(heard[1], queues=heard[1].queues.fill_(torch.nan))
    zeros = torch.zeros(COUNT, dtype=torch.int64)
    found = draw_frames(model, FrameOrder(heard, zeros, zeros, TEMPERATURES.float(), gumbel.float(), uniform))
    assert [each.finite for each in found] == [True, False, True]


@pytest.mark.parametrize("window", [2, 9])
def test_a_window_may_be_shorter_or_longer_than_a_frame(window: int) -> None:
    config = WORDS.model_copy(update={"window": window})
    model = make_model(config).double()
    steps, noises = drawn(model)
    codes = torch.cat([step[0].codes for step in steps]).flatten()
    logits = model(Clips(codes[None], torch.tensor([FRAMES * STEPS]), torch.tensor([0]))).codes
    gumbel = torch.cat(noises)[:, 0]
    assert torch.equal((logits + gumbel).argmax(2).flatten(), codes)
