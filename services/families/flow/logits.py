"""Owns the way from pixel values to the whole real line, and back. No parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVELS = 256  # of an 8-bit pixel


def to_logits(values: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """y = logit(alpha + (1 - 2 alpha) v / 256) (Dinh 2017, section 4.1; Papamakarios 2017, arXiv:1705.07057, app. E).

    values (B, ...): 8-bit pixels plus noise in [0, 1), uniform where a likelihood is asked for. Returns y and
    log |dy/dv| (B,), so that densities are per unit of a pixel's value: those of uniform noise are 8 bits a pixel.
    """
    inside = alpha + (1 - 2 * alpha) * values / LEVELS
    up, down = inside.log(), (-inside).log1p()
    log_det = (math.log((1 - 2 * alpha) / LEVELS) - up - down).flatten(1).sum(dim=1)
    return up - down, log_det


def from_logits(logits: Tensor, alpha: float) -> Tensor:
    """The values, which for logits that no image has may lie outside of [0, 256)."""
    return (torch.sigmoid(logits) - alpha) / (1 - 2 * alpha) * LEVELS
