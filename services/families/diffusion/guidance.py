"""Owns a batch's forward pass with classifier-free guidance: guided rows put two samples into it, others one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.diffusion.denoiser import Condition, Denoiser


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """What a row's prediction is conditioned on, and led away from (None: not at all)."""

    condition: Condition
    negative: Condition | None
    scale: float


def guided(denoiser: Denoiser, x: Tensor, time: Tensor, guides: Sequence[Guide]) -> Tensor:
    """Predictions (B, C, H, W) in x's dtype: negative + scale * (prediction - negative) (Ho & Salimans 2022).

    arXiv:2207.12598, in the form of scale w + 1. x (B, C, H, W), time (B,).
    """
    at = [i for i, guide in enumerate(guides) if guide.negative is not None]
    conditions = [guide.condition for guide in guides]
    conditions += [guide.negative for guide in guides if guide.negative is not None]
    if not at:
        return denoiser.predict(x.to(denoiser.dtype), time, conditions).to(x.dtype)
    rows = torch.tensor(at, device=x.device)
    inputs, times = torch.cat([x, x[rows]]), torch.cat([time, time[rows]])
    out = denoiser.predict(inputs.to(denoiser.dtype), times, conditions).to(x.dtype)
    plain, negative = out[: len(guides)], out[len(guides) :]
    scale = torch.tensor([guides[i].scale for i in at], dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
    return plain.index_copy(0, rows, negative + scale * (plain[rows] - negative))
