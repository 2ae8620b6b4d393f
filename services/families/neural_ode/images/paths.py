"""Owns what rows follow through the field: flat states, where they start, and what they are in the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.families.neural_ode.images.density import log_density, with_zero
from services.families.neural_ode.images.model import VelocityField
from services.families.neural_ode.images.params import ImageParams, Point, ScoreParams
from services.families.neural_ode.images.pixels import log_volume, to_space
from services.nn.latents import lerp, slerp
from services.nn.rng import row_generator


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """Of one row: P states, from noise (P, D), or back to it with the density's change beside (P, D + 1).

    classes (P, K + 1) weigh the classes. Of a score also its probes (P, D), and what the pixels' own way adds (P,).
    """

    state: Tensor
    classes: Tensor
    probes: Tensor | None = None
    volume: Tensor | None = None

    def moved(self, state: Tensor) -> Paths:
        return replace(self, state=state)

    def log_likelihoods(self) -> Tensor:
        """(P,) in nats, of a score's paths that have come back to time 0."""
        if self.volume is None:
            raise RuntimeError("an image's path has no likelihood")
        return log_density(self.state) + self.volume


def image_paths(params: ImageParams, model: VelocityField) -> Paths:
    """float32 on the CPU; the noise is a function of seeds and position alone."""
    start, end = (_noise(point, model) for point in (params.start, params.end))
    noise = slerp(start, end, params.position) * params.temperature
    labels = torch.tensor([params.start.label, params.end.label])
    first, last = model.one_hot(labels)
    return Paths(noise[None], lerp(first, last, params.position)[None])


def score_paths(params: ScoreParams, model: VelocityField, dtype: torch.dtype) -> Paths:
    """On the CPU; the draws are float32, a function of the seed alone."""
    draws = row_generator(params.seed)
    shape = (params.samples, *params.levels.shape)
    rest = torch.rand(shape, generator=draws).to(dtype)
    probes = torch.randint(2, (params.samples, model.config.dimensions), generator=draws).to(dtype) * 2 - 1
    label = model.no_class if params.label is None else params.label
    return Paths(
        with_zero(to_space(params.levels, rest).flatten(1)),
        model.one_hot(torch.full((params.samples,), label)),
        probes,
        log_volume(params.levels.expand(shape), rest),
    )


def _noise(point: Point, model: VelocityField) -> Tensor:
    return torch.randn(model.config.dimensions, generator=row_generator(point.seed))
