"""Owns the solvers of diffusion as tables of numbers: one line a step, so that rows of any solver share a batch.

Every solver here is linear in tensors that a step knows, with coefficients that depend on the step alone. With `x` the
noised sample, `out` what the model predicts of (scale * x, time), and `eps` fresh unit noise:

    x0 = x0_x * x + x0_out * out, cut off at +-clip
    x' = to_x * x + to_out * out + to_x0 * x0 + to_previous * (x0 of the step before) + to_noise * eps

All arithmetic is float64 numpy; nothing here knows how a checkpoint says what its schedule is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Prediction = Literal["epsilon", "v_prediction", "sample"]
Column = Literal["time", "scale", "x0_x", "x0_out", "clip", "to_x", "to_out", "to_x0", "to_previous", "to_noise"]
COLUMNS: tuple[Column, ...] = get_args(Column)


class StepsNotPossible(ValueError):
    """The schedule has no so many distinct steps, or its coefficients leave the numbers. Holds a sentence for users."""


@dataclass(frozen=True, slots=True, eq=False)
class SolverTable:
    """A solver over S steps. `time` is what the model is told; `levels` say what a noised sample is.

    steps: float64 (S, 10), the columns of COLUMNS. levels: float64 (S + 1, 2): before step i (and after the last) a
    clean sample x0 is noised as levels[i, 0] * x0 + levels[i, 1] * eps. start: pure noise is scaled by it.
    """

    steps: Tensor
    levels: Tensor
    start: float
    clips: bool = field(init=False)
    looks_back: bool = field(init=False)  # some step reads the clean sample that the step before predicted
    draws_noise: bool = field(init=False)

    def __post_init__(self) -> None:
        # Asked of every row at every step: worth keeping.
        object.__setattr__(self, "clips", bool(self.column("clip").isfinite().any()))
        object.__setattr__(self, "looks_back", bool(self.column("to_previous").any()))
        object.__setattr__(self, "draws_noise", bool(self.column("to_noise").any()))

    def __len__(self) -> int:
        return len(self.steps)

    def column(self, name: Column) -> Tensor:
        """float64 (S,)."""
        return self.steps[:, COLUMNS.index(name)]


@dataclass(frozen=True, slots=True)
class _Parts:
    """x = signal * x0 + noise * eps: from the model's output to the clean sample and to eps, in x and out."""

    x0_x: Array
    x0_out: Array
    eps_x: Array
    eps_out: Array

    @classmethod
    def of(cls, prediction: Prediction, signal: Array, noise: Array) -> _Parts:
        """For variance-preserving levels: signal^2 + noise^2 = 1. Salimans & Ho 2022 (arXiv:2202.00512) for v."""
        zero, one = np.zeros_like(signal), np.ones_like(signal)
        with np.errstate(divide="ignore", invalid="ignore"):
            match prediction:
                case "epsilon":
                    return cls(1 / signal, -noise / signal, zero, one)
                case "v_prediction":
                    return cls(signal, -noise, noise, signal)
                case "sample":
                    return cls(zero, one, 1 / noise, -signal / noise)


def ddim(prediction: Prediction, times: Array, now: Array, after: Array, final: float, clip: float) -> SolverTable:
    """DDIM with eta 0 (Song et al. 2020, arXiv:2010.02502, eq. 12), from cumulative products of alpha.

    now: at each step's time; after: at the time that the step goes to; final: what a finished sample counts as.
    """
    parts = _Parts.of(prediction, np.sqrt(now), np.sqrt(1 - now))
    signal, noise = np.sqrt(after), np.sqrt(1 - after)
    return _table(
        times,
        _variance_preserving(now, final),
        x0_x=parts.x0_x,
        x0_out=parts.x0_out,
        clip=clip,
        to_x=noise * parts.eps_x,
        to_out=noise * parts.eps_out,
        to_x0=signal,
    )


def ddpm(prediction: Prediction, times: Array, now: Array, *, large: bool, clip: float) -> SolverTable:
    """Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, eq. 7), from cumulative products of alpha at each time.

    The noise's variance is that of the posterior, or with `large` the step's beta. No noise at time 0.
    """
    after = np.append(now[1:], 1.0)
    alpha = now / after
    beta = 1 - alpha
    parts = _Parts.of(prediction, np.sqrt(now), np.sqrt(1 - now))
    variance = beta if large else np.maximum((1 - after) / (1 - now) * beta, 1e-20)
    return _table(
        times,
        _variance_preserving(now, 1.0),
        x0_x=parts.x0_x,
        x0_out=parts.x0_out,
        clip=clip,
        to_x=np.sqrt(alpha) * (1 - after) / (1 - now),
        to_x0=np.sqrt(after) * beta / (1 - now),
        to_noise=np.where(times > 0, np.sqrt(variance), 0.0),
    )


def euler(prediction: Prediction, times: Array, sigmas: Array, start: float) -> SolverTable:
    """Euler steps of the probability-flow ODE (Karras et al. 2022, arXiv:2206.00364, alg. 2 without churn).

    sigmas (S + 1,): the noise's deviation before each step and after the last; here x = x0 + sigma * eps.
    """
    sigma, after = sigmas[:-1], sigmas[1:]
    scale = 1 / np.sqrt(sigma**2 + 1)
    ratio = after / sigma
    zero, one = np.zeros_like(sigma), np.ones_like(sigma)
    x0_x, x0_out = {
        "epsilon": (one, -sigma),
        "v_prediction": (scale**2, -sigma * scale),
        "sample": (zero, one),
    }[prediction]
    levels = np.stack([np.ones_like(sigmas), sigmas], axis=1)
    return _table(times, levels, start=start, scale=scale, x0_x=x0_x, x0_out=x0_out, to_x=ratio, to_x0=1 - ratio)


def dpmpp_2m(
    prediction: Prediction, times: Array, sigmas: Array, *, first_order: Sequence[int], heun: bool
) -> SolverTable:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, alg. 2), in its midpoint or its Heun form.

    sigmas (S + 1,) are noise over signal. Steps in `first_order`, and the first, look at no earlier step.
    """
    signals = 1 / np.sqrt(sigmas**2 + 1)
    noises = sigmas * signals
    parts = _Parts.of(prediction, signals[:-1], noises[:-1])
    shrink = sigmas[1:] / sigmas[:-1]  # exp(-h), h being the step in lambda = log(signal / noise)
    gain = signals[1:] * (1 - shrink)
    lookback = np.zeros_like(gain)
    for i in range(1, len(gain)):
        if i not in first_order:
            h, h_before = -np.log(shrink[i]), -np.log(shrink[i - 1])
            weight = signals[i + 1] * (1 - (1 - shrink[i]) / h) if heun else gain[i] / 2
            lookback[i] = weight * h / h_before
    return _table(
        times,
        np.stack([signals, noises], axis=1),
        x0_x=parts.x0_x,
        x0_out=parts.x0_out,
        to_x=noises[1:] / noises[:-1],
        to_x0=gain + lookback,
        to_previous=-lookback,
    )


def flow_euler(times: Array, sigmas: Array) -> SolverTable:
    """Euler steps along the velocity eps - x0 of x = (1 - sigma) x0 + sigma eps (Liu et al. 2022, arXiv:2209.03003)."""
    sigma, after = sigmas[:-1], sigmas[1:]
    one = np.ones_like(sigma)
    levels = np.stack([1 - sigmas, sigmas], axis=1)
    return _table(times, levels, x0_x=one, x0_out=-sigma, to_x=one, to_out=after - sigma)


def _variance_preserving(now: Array, final: float) -> Array:
    products = np.append(now, final)
    return np.stack([np.sqrt(products), np.sqrt(1 - products)], axis=1)


def _table(times: Array, levels: Array, *, start: float = 1.0, **columns: Any) -> SolverTable:
    """Columns that are left out are neutral. Raises StepsNotPossible for coefficients that are not finite."""
    neutral: dict[Column, float] = {"scale": 1.0, "clip": np.inf}
    given = {"time": times, **columns}
    steps = np.stack([np.broadcast_to(given.get(name, neutral.get(name, 0.0)), times.shape) for name in COLUMNS], 1)
    numbers = np.delete(steps, COLUMNS.index("clip"), axis=1)
    if not (np.isfinite(numbers).all() and np.isfinite(levels).all()):
        raise StepsNotPossible(f"the model's schedule cannot be solved in {len(times)} steps by this solver")
    return SolverTable(torch.from_numpy(steps), torch.from_numpy(levels), start)
