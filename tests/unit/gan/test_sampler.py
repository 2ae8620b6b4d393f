"""The one step: failures of single rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.engine.contract import FinishReason
from services.engine.errors import DeviceFailure
from services.families.gan.model import Generator
from services.families.gan.params import ImageParams, Point
from services.families.gan.sampler import GeneratorPass
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Writing
from services.nn.one_shot import OneShotSampler
from tests.contract.driver import run_rows
from tests.unit.gan.tiny import make_generator


def row(seed: int) -> ImageParams:
    point = Point(seed, 0)
    return ImageParams("image", point, point, 0.0, 1.0, Drawing(seed, 0, Writing("png", 90), 1))


def one_shot(generator: Generator, rows: int) -> OneShotSampler[ImageParams, ImageChunk]:
    return OneShotSampler({"image": GeneratorPass(generator)}, rows)


def test_a_row_that_is_not_finite_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make_generator()
    sampler = one_shot(generator, 4)
    states = [sampler.start(row(seed)) for seed in range(3)]
    original = generator.forward

    def spoilt(latent: Tensor, class_weights: Tensor) -> Tensor:
        images = original(latent, class_weights).clone()
        images[1, 0, 3, 3] = torch.nan
        return images

    monkeypatch.setattr(generator, "forward", spoilt)
    outputs = sampler.step(states)
    assert [output.finish_reason for output in outputs] == [FinishReason.STOP, FinishReason.ERROR, FinishReason.STOP]
    assert outputs[1].chunk is None


def test_more_rows_than_a_batch_take_several_steps() -> None:
    sampler = one_shot(make_generator(), 2)
    run = run_rows(sampler, [row(seed) for seed in range(5)])
    assert [run.final(i).finish_reason for i in range(1, 6)] == [FinishReason.STOP] * 5


def test_a_device_that_fails_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make_generator()

    def broken(latent: Tensor, class_weights: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(generator, "forward", broken)
    sampler = one_shot(generator, 2)
    with pytest.raises(DeviceFailure):
        sampler.step([sampler.start(row(0))])


def test_a_state_is_released_once() -> None:
    sampler = one_shot(make_generator(), 2)
    state = sampler.start(row(0))
    sampler.release(state)
    with pytest.raises(KeyError):
        sampler.release(state)
