"""Owns averaged weights and the learning rate over time: what a step changes besides the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from services.training.recipe import Schedule


def rate_at(schedule: Schedule, step: int) -> float:
    """The learning rate of a step (counted from 0) as a fraction of the phase's own.

    Linear over `warmup` steps, then constant, or half a cosine from 1 to 0.1 that ends at `schedule.steps`
    (Loshchilov & Hutter 2017, eq. 5, one cycle).
    """
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.decay == "constant":
        return 1.0
    done = min(1.0, (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup))
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))


class MovingAverage:
    """Exponential moving averages of modules, in float32: average = d * average + (1 - d) * weight.

    d is `decay`, but at most (1 + step) / (10 + step), so that the fresh weights of the first steps are forgotten
    soon. Buffers are copied. `modules` are in evaluation mode and take no gradient.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self._decay = decay
        self.modules = {name: copy.deepcopy(module).float().eval() for name, module in modules.items()}
        for module in self.modules.values():
            module.requires_grad_(False)
        self._averages, self._weights = _pairs(self.modules, modules, nn.Module.parameters)
        self._held, self._buffers = _pairs(self.modules, modules, nn.Module.buffers)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights in after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        if self._averages:
            get_ema_multi_avg_fn(decay)(self._averages, self._weights, step)
        for held, buffer in zip(self._held, self._buffers, strict=True):
            held.copy_(buffer)


def _pairs(
    averages: Mapping[str, nn.Module],
    live: Mapping[str, nn.Module],
    tensors: Callable[[nn.Module], Iterable[Tensor]],
) -> tuple[list[Tensor], list[Tensor]]:
    return (
        [tensor for name in averages for tensor in tensors(averages[name])],
        [tensor for name in averages for tensor in tensors(live[name])],
    )
