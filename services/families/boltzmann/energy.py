"""Owns the energy of a machine of two or three layers, and what follows from it alone. Never sees a request.

The layers take turns: the first (visible) and the third (top, of a deep machine alone) are even, the second is odd.
Units of even layers touch odd units alone, so that even units x = (v, top) and odd units h make one bipartite graph,
and a deep machine is sampled as a restricted one is. Given a class y,

    -E(x, h | y) = a_y . x + c_y . h + x W h

(Smolensky 1986; Hinton 2002, "Training products of experts by minimizing contrastive divergence"; Salakhutdinov &
Hinton 2009, "Deep Boltzmann machines"). Classes shift the biases, as ten label units that are joined to every unit do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MEAN_FIELD_ROUNDS = 15


@dataclass(frozen=True, slots=True, eq=False)
class Energy:
    """weight (E, H), even_bias (K, E), odd_bias (K, H): E even, H odd units, K classes. `labels` are int64, (B,)."""

    weight: Tensor
    even_bias: Tensor
    odd_bias: Tensor

    def to(self, dtype: torch.dtype) -> Energy:
        return Energy(self.weight.to(dtype), self.even_bias.to(dtype), self.odd_bias.to(dtype))

    def odd_input(self, even: Tensor, labels: Tensor) -> Tensor:
        """(B, E) -> (B, H): the log-odds of each odd unit, given all even ones."""
        return even @ self.weight + self.odd_bias[labels]

    def even_input(self, odd: Tensor, labels: Tensor) -> Tensor:
        """(B, H) -> (B, E): the log-odds of each even unit, given all odd ones."""
        return odd @ self.weight.T + self.even_bias[labels]

    def free_energy(self, even: Tensor, labels: Tensor) -> Tensor:
        """(B, E) -> (B,): -log sum_h exp(-E(x, h | y)), the odd units summed out (Hinton 2012, eq. 25).

        For means of even units in place of states it is the variational free energy of the odd units' best
        distribution, but for the entropy of the even units.
        """
        linear = (even * self.even_bias[labels]).sum(-1)
        return -linear - functional.softplus(self.odd_input(even, labels)).sum(-1)

    def top_means(self, visible: Tensor, labels: Tensor) -> Tensor:
        """(B, D) -> (B, T): mean-field means of the top units given the visible ones (Salakhutdinov & Hinton, eq. 7).

        T is 0 of a restricted machine, of whose units nothing is left to guess. A fixed number of rounds from 1/2.
        """
        size = visible.shape[1]
        from_below = visible @ self.weight[:size] + self.odd_bias[labels]  # (B, H)
        joined, bias = self.weight[size:], self.even_bias[labels, size:]  # (T, H), (B, T)
        top = torch.full_like(bias, 0.5)
        for _ in range(MEAN_FIELD_ROUNDS if len(joined) else 0):
            odd = torch.sigmoid(from_below + top @ joined)
            top = torch.sigmoid(bias + odd @ joined.T)
        return top


def flips(log_odds: Tensor, generator: torch.Generator) -> Tensor:
    """States 0 or 1 in the dtype of `log_odds`, of whatever shape; 1 with the probability that each says."""
    return (torch.rand(log_odds.shape, generator=generator).to(log_odds.device) < torch.sigmoid(log_odds)).to(log_odds)


def sweep(energy: Energy, even: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One sweep of block Gibbs: odd units given the even ones, then even units given the odd ones.

    Returns the new even units (B, E), and the log-odds (B, E) that they were drawn from.
    """
    odd = flips(energy.odd_input(even, labels), generator)
    log_odds = energy.even_input(odd, labels)
    return flips(log_odds, generator), log_odds


def bernoulli_entropy(means: Tensor) -> Tensor:
    """(..., N) -> (...): the entropy of independent units, in nats."""
    return (torch.special.entr(means) + torch.special.entr(1 - means)).sum(-1)
