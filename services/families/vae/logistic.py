"""Owns the logistic distribution, rounded to bins. Never sees what its numbers are of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FAR = 1e4  # an edge that all of the distribution is within: infinity, but with a gradient


def logistic_log_mass(low: Tensor, high: Tensor, place: Tensor, log_scale: Tensor) -> Tensor:
    """log P(low < x < high) in nats of a logistic variable, all of one shape (Salimans 2017, arXiv:1701.05517, eq. 2).

    Without cancellation: of sigmoids s, s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)).
    """
    precision = (-log_scale).exp()
    width = -torch.expm1((low - high) * precision)
    below_high = functional.logsigmoid((high - place) * precision)
    return below_high + functional.logsigmoid((place - low) * precision) + width.log()


def logistic_draw(uniform: Tensor, place: Tensor, log_scale: Tensor) -> Tensor:
    """The logistic variable at `uniform` in (0, 1), where its distribution function has that value."""
    return place + log_scale.exp() * torch.logit(uniform)


def single(value: Tensor) -> Tensor:
    """At least float32: sums of thousands of logarithms follow."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
