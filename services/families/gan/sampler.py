"""Owns the one step of a GAN: all its rows' images in a single pass of the generator."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.contract import FinishReason, StepOutput
from services.families.gan.latents import lerp, slerp
from services.families.gan.model import Generator
from services.families.gan.params import ImageParams, Point
from services.nn.device import device_errors
from services.nn.images import ImageChunk, Pixels, to_pixels
from services.nn.rng import row_generator


@dataclass(frozen=True, slots=True, eq=False)
class RowState:
    """A row before its step: latent float32 (Z,) and class weights float32 (K,), on the CPU."""

    params: ImageParams
    latent: Tensor
    class_weights: Tensor


class OneShotSampler:
    """Implements `services.engine.contract.Sampler`: every row ends with its first step, whatever its options."""

    def __init__(self, generator: Generator, max_batch_size: int) -> None:
        self.generator = generator
        self.rows: set[RowState] = set()
        self._max_batch_size = max_batch_size
        self._weight = next(generator.parameters())  # its device and dtype are the generator's

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: ImageParams) -> Hashable:
        """All rows share steps: classes, truncations and both tasks are numbers of the same pass."""
        return "image"

    def fits(self, params: ImageParams, states: Sequence[RowState]) -> bool:
        """A full batch is counted in the model's memory already, and no row takes more than another."""
        return len(states) < self._max_batch_size

    def start(self, params: ImageParams) -> RowState:
        position = params.position
        latent = slerp(self._latent(params.start), self._latent(params.end), position) * params.truncation
        weights = lerp(self._one_hot(params.start), self._one_hot(params.end), position)
        row = RowState(params, latent, weights)
        self.rows.add(row)
        return row

    def step(self, states: Sequence[RowState]) -> list[StepOutput[ImageChunk]]:
        with torch.inference_mode(), device_errors():
            latent = torch.stack([row.latent for row in states]).to(self._weight)
            weights = torch.stack([row.class_weights for row in states]).to(self._weight)
            images = self.generator(latent, weights)
            finite = images.isfinite().flatten(1).all(dim=1).tolist()
            pixels = to_pixels(images)
        return [_output(*each) for each in zip(states, pixels, finite, strict=True)]

    def release(self, state: RowState) -> None:
        self.rows.remove(state)

    def _latent(self, point: Point) -> Tensor:
        return torch.randn(self.generator.config.latent_size, generator=row_generator(point.seed))

    def _one_hot(self, point: Point) -> Tensor:
        weights = torch.zeros(len(self.generator.config.classes))
        weights[point.label] = 1.0
        return weights


def _output(row: RowState, pixels: Pixels, finite: bool) -> StepOutput[ImageChunk]:
    params = row.params
    if not finite:
        return StepOutput(None, FinishReason.ERROR, 0.0)
    chunk = ImageChunk(
        pixels,
        params.writing,
        seed=params.seed,
        step=1,
        steps=1,
        is_preview=False,
        prompt_tokens=params.prompt_tokens,
    )
    return StepOutput(chunk, FinishReason.STOP, params.cost)
