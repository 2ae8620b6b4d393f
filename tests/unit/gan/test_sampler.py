"""The one step: failures of single rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.engine.contract import FinishReason
from services.engine.errors import DeviceFailure
from services.families.gan.params import ImageParams, Point
from services.families.gan.sampler import OneShotSampler
from services.nn.images import Writing
from tests.contract.driver import run_rows
from tests.unit.gan.tiny import make_generator


def row(seed: int) -> ImageParams:
    return ImageParams("image", Point(seed, 0), Point(seed, 0), 0.0, 1.0, seed, Writing("png", 90), 1)


def test_a_row_that_is_not_finite_fails_alone() -> None:
    sampler = OneShotSampler(make_generator(), 4)
    states = [sampler.start(row(seed)) for seed in range(3)]
    states[1].latent[0] = torch.nan
    outputs = sampler.step(states)
    assert [output.finish_reason for output in outputs] == [FinishReason.STOP, FinishReason.ERROR, FinishReason.STOP]
    assert outputs[1].chunk is None


def test_more_rows_than_a_batch_take_several_steps() -> None:
    sampler = OneShotSampler(make_generator(), 2)
    run = run_rows(sampler, [row(seed) for seed in range(5)])
    assert [run.final(i).finish_reason for i in range(1, 6)] == [FinishReason.STOP] * 5


def test_a_device_that_fails_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make_generator()

    def broken(latent: Tensor, class_weights: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(generator, "forward", broken)
    sampler = OneShotSampler(generator, 2)
    with pytest.raises(DeviceFailure):
        sampler.step([sampler.start(row(0))])


def test_a_state_is_released_once() -> None:
    sampler = OneShotSampler(make_generator(), 2)
    state = sampler.start(row(0))
    sampler.release(state)
    with pytest.raises(KeyError):
        sampler.release(state)
