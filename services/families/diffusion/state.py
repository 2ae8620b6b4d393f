"""Owns what the sampler keeps of a running row: how far it is, and what starts it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.diffusion.denoiser import Condition, Shape
from services.families.diffusion.params import ImageParams
from services.nn.rng import derive_seed, row_generator


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What a row needs from the model before its first step."""

    condition: Condition
    negative: Condition | None
    known: Tensor | None  # the source's latent (C, H, W)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A latent (C, H, W) that is to become an image, since the sampler's step `since`."""

    latent: Tensor
    is_preview: bool
    since: int


@dataclass(slots=True, eq=False)
class Progress:
    """How far a row is. A step works on copies, and replaces no tensor in place: committing is one assignment."""

    step: int = 0  # steps taken
    entry: Entry | None = None  # None: the model has not read prompt and image yet
    x: Tensor | None = None  # (C, H, W)
    previous: Tensor | None = None  # the clean sample that the last step predicted
    picture: Picture | None = None  # the row waits until it is drawn

    def copy(self) -> Progress:
        return Progress(self.step, self.entry, self.x, self.previous, self.picture)


@dataclass(slots=True, eq=False)
class RowState:
    """A running row: its noise (C, H, W), where a mask lets its latent change (1, H, W), and its progress."""

    params: ImageParams
    noise: Tensor
    free: Tensor | None
    progress: Progress


def start_noise(params: ImageParams) -> Tensor:
    """Unit noise (C, H, W) float32 on the CPU, drawn from the row's seed or on the way between two."""
    noise = _unit_noise(params.noise_seed, params.latent)
    if params.blend is None:
        return noise
    return slerp(noise, _unit_noise(params.blend.seed, params.latent), params.blend.weight)


def step_noise(params: ImageParams, step: int) -> Tensor:
    """Fresh unit noise (C, H, W): a function of seed and step, so that a step that is tried again draws the same."""
    return _unit_noise(derive_seed(params.seed, step + 1), params.latent)


def _unit_noise(seed: int, shape: Shape) -> Tensor:
    # float32 whatever the model computes in, so that a seed is the same picture in every precision.
    return torch.randn(shape, generator=row_generator(seed))


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Spherical interpolation (Shoemake 1985): what lies between two draws of noise has the norm of noise."""
    if weight in (0.0, 1.0):
        return b if weight else a
    x, y = a.double().flatten(), b.double().flatten()
    angle = torch.arccos((x @ y / (x.norm() * y.norm())).clamp(-1, 1))
    if angle < 1e-6:
        return torch.lerp(a, b, weight)
    way = (torch.sin((1 - weight) * angle) * x + torch.sin(weight * angle) * y) / torch.sin(angle)
    return way.view_as(a).to(a.dtype)


def latent_mask(params: ImageParams, factor: int) -> Tensor | None:
    """bool (1, H, W) at the latent's size: cells that touch a pixel that may change."""
    if params.mask is None:
        return None
    free = torch.from_numpy(params.mask.free)[None, None].float()
    return torch.nn.functional.max_pool2d(free, factor)[0].bool()
