"""Owns the partition function: what a machine's probabilities are divided by, estimated. Never sees an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from services.families.boltzmann.energy import Energy, flips


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """log Z of each class and its standard error, both float64 (K,)."""

    value: Tensor
    error: Tensor


@torch.no_grad()
def anneal(energy: Energy, base: Tensor, *, chains: int, temperatures: int, seed: int) -> Partition:
    """Annealed importance sampling (Neal 2001; Salakhutdinov & Murray 2008, "On the quantitative analysis of deep
    belief networks", eq. 13 to 18), with `chains` chains a class.

    The way leads from independent even units of log-odds `base` (K, E), without weights, to the machine: at inverse
    temperature b an even unit has (1 - b) base + b (a + h W), an odd one b (c + x W). exp of the log-weights is an
    unbiased estimate of Z, so that log Z is too small rather than too large. The error is by the delta method.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = len(base)
    labels = torch.arange(classes, device=base.device).repeat_interleave(chains)
    start = base[labels]  # (C, E)
    even = flips(start, generator)
    weights = torch.zeros(len(labels), dtype=torch.float64, device=base.device)
    before = 0.0
    for now in _ladder(temperatures):
        inputs = energy.odd_input(even, labels)  # (C, H)
        gain = functional.softplus(now * inputs) - functional.softplus(before * inputs)
        linear = (even * (energy.even_bias[labels] - start)).sum(-1, dtype=torch.float64)
        weights += (now - before) * linear + gain.sum(-1, dtype=torch.float64)
        odd = flips(now * inputs, generator)
        even = flips(torch.lerp(start, energy.even_input(odd, labels), now), generator)
        before = now
    known = functional.softplus(base.double()).sum(-1) + energy.odd_bias.shape[1] * math.log(2)  # log Z at b = 0
    return _estimate(known, weights.view(classes, chains))


def _ladder(temperatures: int) -> list[float]:
    """Inverse temperatures from above 0 to 1, closer to each other near 1, where distributions differ most."""
    return [1 - (1 - i / temperatures) ** 2 for i in range(1, temperatures + 1)]


def _estimate(known: Tensor, weights: Tensor) -> Partition:
    """known (K,), log-weights (K, chains)."""
    chains = weights.shape[1]
    value = known + torch.logsumexp(weights, 1) - math.log(chains)
    ratios = torch.exp(weights - weights.amax(1, keepdim=True))
    error = ratios.std(1) / ratios.mean(1) / math.sqrt(chains)
    return Partition(value, error)
