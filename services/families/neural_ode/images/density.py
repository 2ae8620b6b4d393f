"""Owns the density of a continuous flow: the instantaneous change of variables. Never sees an image.

Noise at time 0 flows to data at time 1. Along a path d log p(x(t)) / dt = -tr(df/dx) (Chen 2018, arXiv:1806.07366,
theorem 1), so log p of the data is log N(x(0)) plus the trace integrated from 1 back to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from services.families.neural_ode.solvers import Field, Method, solve

# From a field's output and its input, both (B, D): tr(df/dx) of each row (B,), differentiating through the graph.
Trace = Callable[[Tensor, Tensor], Tensor]


def exact_trace(output: Tensor, at: Tensor) -> Tensor:
    """D products: for spaces of few dimensions."""
    columns = [torch.autograd.grad(output[:, i].sum(), at, retain_graph=True)[0][:, i] for i in range(output.shape[1])]
    return torch.stack(columns).sum(0)


def hutchinson(probes: Tensor) -> Trace:
    """One product: e^T (df/dx) e, whose mean over Rademacher probes e (B, D) is the trace (Hutchinson 1989).

    The probes stay the same along a path, so that its integrand is smooth (Grathwohl 2019, arXiv:1810.01367, eq. 8).
    """

    def trace(output: Tensor, at: Tensor) -> Tensor:
        (product,) = torch.autograd.grad((output * probes).sum(), at)
        return (product * probes).sum(1)

    return trace


def with_trace(field: Field, trace: Trace) -> Field:
    """The field of (x, log-density change): state (B, D + 1), of which the last column does not act back."""

    def augmented(state: Tensor, time: Tensor) -> Tensor:
        # The sampler runs without gradients; here they are of the input alone, and end here.
        with torch.inference_mode(False), torch.enable_grad():
            at = state[:, :-1].clone().requires_grad_()
            output = field(at, time.clone())
            change = trace(output, at)
        return torch.cat([output.detach(), change.detach()[:, None]], dim=1)

    return augmented


def with_zero(x: Tensor) -> Tensor:
    """The state (B, D + 1) of points (B, D) whose log-density has not changed yet."""
    return torch.cat([x, x.new_zeros(len(x), 1)], dim=1)


def log_density(state: Tensor) -> Tensor:
    """(B,) in nats, of states (B, D + 1) that have come back to time 0: the last column holds minus the integral."""
    noise, integral = state[:, :-1], state[:, -1]
    return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(1) + integral


def log_likelihood(field: Field, x: Tensor, trace: Trace, *, steps: int, method: Method) -> Tensor:
    """log p (B,) in nats of points (B, D), at once; a sampler takes the same steps one by one."""
    return log_density(solve(with_trace(field, trace), with_zero(x), 1.0, 0.0, steps=steps, method=method))
