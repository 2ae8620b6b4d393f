"""Owns paths in bulk, for training and for measuring. Serving goes through the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from services.families.neural_ode.series.data import Window
from services.families.neural_ode.series.model import LatentOde
from services.families.neural_ode.solvers import METHODS, take_step

_SUBSTEPS = 2  # between neighbouring targets
_METHOD = METHODS["rk4"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows in their own units, padded: observations float32 (B, N, 3), of which `lengths` (B,) count.

    times, values and weights (B, T): what follows, and 1 where it does; after a row's end its last time is repeated.
    """

    observations: Tensor
    lengths: Tensor
    times: Tensor
    values: Tensor
    weights: Tensor

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Batch:
        scaled = [window.scaled() for window in windows]
        pairs = list(zip(scaled, windows, strict=True))
        times = [(window.later_times - unit.last) / unit.gap for unit, window in pairs]
        longest = max(len(each) for each in times)
        padded = torch.stack([torch.cat([each, each[-1:].expand(longest - len(each))]) for each in times])
        values = pad_sequence([unit.scaled(window.later_values) for unit, window in pairs], batch_first=True)
        weights = pad_sequence([torch.ones(len(each)) for each in times], batch_first=True)
        return cls(
            pad_sequence([unit.observations for unit in scaled], batch_first=True),
            torch.tensor([len(unit.observations) for unit in scaled]),
            padded.float(),
            values.float(),
            weights,
        )


def decoded_paths(model: nn.Module, batch: Batch, paths: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Means and deviations (B, K, T) of `paths` K paths of each window, at its times."""
    ode = cast(LatentOde, model)
    mean, deviation = ode.read(batch.observations, batch.lengths)
    noise = torch.randn((len(mean), paths, mean.shape[1]), generator=draws)
    state = (mean[:, None] + deviation[:, None] * noise).flatten(0, 1)  # (B * K, Z)
    widths = batch.times.diff(dim=1, prepend=batch.times.new_zeros(len(mean), 1)) / _SUBSTEPS
    at: list[Tensor] = []
    for width in widths.repeat_interleave(paths, dim=0).unbind(1):
        for _ in range(_SUBSTEPS):
            state = take_step(ode, state, torch.zeros_like(width), width, _METHOD)
        at.append(state)
    means, spreads = ode.decode(torch.stack(at, dim=1))
    return means.unflatten(0, (-1, paths)), spreads.unflatten(0, (-1, paths))


def negative_log_likelihood(means: Tensor, spreads: Tensor, batch: Batch) -> Tensor:
    """-log (1/K) sum_k prod_t N(x_t; path k), a time, mean over windows: what the drawn paths tell together.

    As Foong 2020 (arXiv:2007.01332) trains latent models: no bound of the likelihood, but an estimate of it.
    """
    density = torch.distributions.Normal(means, spreads).log_prob(batch.values[:, None])  # (B, K, T)
    whole = (density * batch.weights[:, None]).sum(2).logsumexp(1) - torch.tensor(float(means.shape[1])).log()
    return -(whole / batch.weights.sum(1)).mean()
