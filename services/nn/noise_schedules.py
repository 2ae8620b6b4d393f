"""Owns noise schedules: from what a checkpoint says of its own to a solver's table for a number of steps.

A schedule knows its levels of noise and how times are spread over them; `services.nn.solvers` makes the numbers of each
step. Names and defaults of the configuration are those of diffusers' scheduler_config.json, so that a checkpoint
means here what it means there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from services.nn import solvers
from services.nn.solvers import Array, Prediction, SolverTable, StepsNotPossible
from shared.schemas.images import Solver

Spacing = Literal["leading", "trailing", "linspace"]
GAUSSIAN_SOLVERS: tuple[Solver, ...] = ("ddim", "ddpm", "euler", "dpmpp_2m")
FLOW_SOLVERS: tuple[Solver, ...] = ("flow_euler",)
_KEPT_TABLES = 256  # 10 kB each at 100 steps
_LEAST_SIGNAL = 2.0**-24  # what a signal of zero counts as where it is divided by, as diffusers has it
_KARRAS_RHO = 7.0


class NoiseSchedule(Protocol):
    @property
    def solvers(self) -> tuple[Solver, ...]:
        """Those that can solve it."""
        ...

    def table(self, solver: Solver, steps: int, first: int = 0) -> SolverTable:
        """The last `steps - first` of `steps` steps. Raises StepsNotPossible; `solver` is one of `solvers`."""
        ...


class GaussianConfig(BaseModel):
    """Of a variance-preserving diffusion. Values that stand for something not known here do not validate."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    num_train_timesteps: int = Field(default=1000, ge=1)
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: tuple[float, ...] | None = None
    prediction_type: Prediction = "epsilon"
    timestep_spacing: Spacing | None = None  # None: leading for DDIM and DDPM, linspace for the others
    steps_offset: int = Field(default=0, ge=0)
    rescale_betas_zero_snr: bool = False
    set_alpha_to_one: bool = True
    clip_sample: bool = True
    clip_sample_range: float = Field(default=1.0, gt=0)
    variance_type: Literal["fixed_small", "fixed_large"] | None = None
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"
    use_karras_sigmas: bool | None = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    solver_type: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float = -math.inf
    # What other values of these would ask for is not implemented.
    thresholding: Literal[False] = False
    interpolation_type: Literal["linear"] = "linear"
    timestep_type: Literal["discrete"] = "discrete"
    use_exponential_sigmas: Literal[False] | None = False
    use_beta_sigmas: Literal[False] | None = False
    use_lu_lambdas: Literal[False] | None = False
    use_flow_sigmas: Literal[False] | None = False

    @field_validator("trained_betas")
    @classmethod
    def _a_beta_for_each_time(cls, betas: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if betas is not None and len(betas) != info.data.get("num_train_timesteps"):
            raise ValueError(f"these are {len(betas)}, not num_train_timesteps")
        return betas


class GaussianSchedule:
    """Diffusion by Gaussian noise at discrete times (Ho et al. 2020): DDIM, DDPM, Euler and DPM-Solver++(2M) solve it.

    Cumulative products are computed in float32, as the checkpoint's training had them; everything after in float64.
    """

    def __init__(self, config: GaussianConfig) -> None:
        self.config = config
        self._products = _alphas_cumprod(config)
        floored = self._products.copy()
        if config.rescale_betas_zero_snr:
            floored[-1] = _LEAST_SIGNAL
        self._sigmas = np.sqrt((1 - floored) / floored)
        self.table = lru_cache(_KEPT_TABLES)(self._table)

    @property
    def solvers(self) -> tuple[Solver, ...]:
        return GAUSSIAN_SOLVERS

    def _table(self, solver: Solver, steps: int, first: int = 0) -> SolverTable:
        match solver:
            case "ddim":
                return _tail(self._ddim(steps), first)
            case "ddpm":
                return _tail(self._ddpm(steps), first)
            case "euler":
                return _tail(self._euler(steps), first)
            case "dpmpp_2m":
                return self._dpmpp_2m(steps, first)
            case _:
                raise ValueError(f"{solver} does not solve a Gaussian schedule")

    @property
    def _clip(self) -> float:
        return self.config.clip_sample_range if self.config.clip_sample else math.inf

    def _ddim(self, steps: int) -> SolverTable:
        times = self._times(steps, "leading").round()
        at = self._indices(times)
        to = at - self.config.num_train_timesteps // steps
        final = 1.0 if self.config.set_alpha_to_one else float(self._products[0])
        after = np.where(to >= 0, self._products[np.maximum(to, 0)], final)
        return solvers.ddim(self.config.prediction_type, times, self._products[at], after, final, self._clip)

    def _ddpm(self, steps: int) -> SolverTable:
        times = self._times(steps, "leading").round()
        large = self.config.variance_type == "fixed_large"
        products = self._products[self._indices(times)]
        return solvers.ddpm(self.config.prediction_type, times, products, large=large, clip=self._clip)

    def _euler(self, steps: int) -> SolverTable:
        times = self._times(steps, "linspace")
        sigmas = np.interp(times, np.arange(len(self._sigmas)), self._sigmas)
        self._indices(times)
        if self.config.use_karras_sigmas:
            sigmas = self._karras(sigmas[-1], sigmas[0], steps)
            times = self._times_of(sigmas)
        sigmas = np.append(sigmas, self._final_sigma)
        leading = (self.config.timestep_spacing or "linspace") == "leading"
        start = math.sqrt(sigmas[0] ** 2 + 1) if leading else float(sigmas[0])
        return solvers.euler(self.config.prediction_type, times, sigmas, start)

    def _dpmpp_2m(self, steps: int, first: int) -> SolverTable:
        if self.config.use_karras_sigmas:
            sigmas = self._karras(self._sigmas[0], self._sigmas[-1], steps)
            times = self._times_of(sigmas)
            times = times if self.config.beta_schedule == "squaredcos_cap_v2" else times.round()
            times = np.trunc(times)
        else:
            times = self._dpm_times(steps)
            sigmas = np.interp(times, np.arange(len(self._sigmas)), self._sigmas)
            self._indices(times)
        sigmas = np.append(sigmas, self._final_sigma)[first:]
        short = self.config.lower_order_final and steps < 15
        ends = self.config.euler_at_final or short or self.config.final_sigmas_type == "zero"
        last = [steps - first - 1] if ends else []
        heun = self.config.solver_type == "heun"
        return solvers.dpmpp_2m(self.config.prediction_type, times[first:], sigmas, first_order=last, heun=heun)

    @property
    def _final_sigma(self) -> float:
        return 0.0 if self.config.final_sigmas_type == "zero" else float(self._sigmas[0])

    def _times(self, steps: int, spacing: Spacing) -> Array:
        """Descending times (steps,); table 2 of Lin et al. 2023 (arXiv:2305.08891)."""
        count = self.config.num_train_timesteps
        if steps > count:
            raise StepsNotPossible(f"the model was trained on {count} steps, and takes no more")
        match self.config.timestep_spacing or spacing:
            case "linspace":
                return np.linspace(0, count - 1, steps)[::-1]
            case "leading":
                return _leading(0, steps, count // steps) + self.config.steps_offset
            case "trailing":
                return _trailing(count, count / steps, steps)

    def _dpm_times(self, steps: int) -> Array:
        """As `_times`, but without the last of one more: the final step goes to no noise at all."""
        count = self.config.num_train_timesteps
        signal, noise = np.sqrt(self._products), np.sqrt(1 - self._products)
        with np.errstate(divide="ignore"):
            lambdas = (np.log(signal) - np.log(noise))[::-1]
        last = count - int(np.searchsorted(lambdas, self.config.lambda_min_clipped))
        match self.config.timestep_spacing or "linspace":
            case "linspace":
                return np.linspace(0, last - 1, steps + 1).round()[:0:-1]
            case "leading":
                return _leading(1, steps + 1, last // (steps + 1)) + self.config.steps_offset
            case "trailing":
                return _trailing(last, count / steps, steps)

    def _indices(self, times: Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Times as indices. Raises StepsNotPossible if they are not distinct times that the model was trained on."""
        if times[0] >= self.config.num_train_timesteps or times[-1] < 0 or (np.diff(times) >= 0).any():
            raise StepsNotPossible(f"the model's schedule has no {len(times)} distinct steps for this solver")
        return times.astype(np.int64)

    def _karras(self, least: float, most: float, steps: int) -> Array:
        """Karras et al. 2022 (arXiv:2206.00364), eq. 5."""
        least = self.config.sigma_min if self.config.sigma_min is not None else least
        most = self.config.sigma_max if self.config.sigma_max is not None else most
        low, high = least ** (1 / _KARRAS_RHO), most ** (1 / _KARRAS_RHO)
        return (high + np.linspace(0, 1, steps) * (low - high)) ** _KARRAS_RHO

    def _times_of(self, sigmas: Array) -> Array:
        """Fractional times, linear in log sigma between the times that the model was trained on."""
        return np.interp(np.log(np.maximum(sigmas, 1e-10)), np.log(self._sigmas), np.arange(len(self._sigmas)))


@dataclass(frozen=True)
class FlowSchedule:
    """Straight paths from data to noise: x = (1 - sigma) x0 + sigma eps, sigma from 1 to 0. flow_euler solves it.

    `shift` moves steps to the noisy side (Esser et al. 2024, arXiv:2403.03206, eq. 23). The model is told
    sigma * time_scale. `levels` None: evenly from 1 to 0; else as diffusers does for a model of so many levels.
    """

    shift: float = 1.0
    time_scale: float = 1.0
    levels: int | None = None

    @property
    def solvers(self) -> tuple[Solver, ...]:
        return FLOW_SOLVERS

    def table(self, solver: Solver, steps: int, first: int = 0) -> SolverTable:
        if solver not in FLOW_SOLVERS:
            raise ValueError(f"{solver} does not solve a flow")
        least = 1 / steps if self.levels is None else float(self._shifted(np.array([1 / self.levels]))[0])
        sigmas = self._shifted(np.linspace(1, least, steps))
        return _tail(solvers.flow_euler(sigmas * self.time_scale, np.append(sigmas, 0.0)), first)

    def _shifted(self, sigmas: Array) -> Array:
        return self.shift * sigmas / (1 + (self.shift - 1) * sigmas)


class FlowConfig(BaseModel):
    """Of a flow-matching checkpoint. Values that stand for something not known here do not validate."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    num_train_timesteps: int = Field(default=1000, ge=1)
    shift: float = Field(default=1.0, gt=0)
    use_dynamic_shifting: Literal[False] = False
    invert_sigmas: Literal[False] = False
    stochastic_sampling: Literal[False] = False
    shift_terminal: None = None
    use_karras_sigmas: Literal[False] | None = False
    use_exponential_sigmas: Literal[False] | None = False
    use_beta_sigmas: Literal[False] | None = False

    def schedule(self) -> FlowSchedule:
        return FlowSchedule(self.shift, float(self.num_train_timesteps), self.num_train_timesteps)


def _leading(first: int, end: int, stride: int) -> Array:
    """Multiples of the stride, descending: those from `first` to below `end`."""
    return np.arange(first, end, dtype=np.float64)[::-1] * stride


def _trailing(last: int, stride: float, steps: int) -> Array:
    """From the last time downwards, as far as times are above 0; a stride that was rounded leaves one too many."""
    return np.round(np.arange(last, 0, -stride, dtype=np.float64)[:steps]) - 1


def _tail(table: SolverTable, first: int) -> SolverTable:
    return table if first == 0 else SolverTable(table.steps[first:], table.levels[first:], table.start)


def _alphas_cumprod(config: GaussianConfig) -> Array:
    """Cumulative products of 1 - beta, by the same float32 operations that trained the model."""
    products = torch.cumprod(1.0 - _betas(config), dim=0)
    if config.rescale_betas_zero_snr:
        products = _zero_terminal_snr(products)
    return products.double().numpy()


def _betas(config: GaussianConfig) -> torch.Tensor:
    """float32 (num_train_timesteps,)."""
    start, end, count = config.beta_start, config.beta_end, config.num_train_timesteps
    if config.trained_betas is not None:
        return torch.tensor(config.trained_betas, dtype=torch.float32)
    match config.beta_schedule:
        case "linear":
            return torch.linspace(start, end, count, dtype=torch.float32)
        case "scaled_linear":
            return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
        case "squaredcos_cap_v2":  # Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17
            bars = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
            return torch.tensor([min(1 - bars[i + 1] / bars[i], 0.999) for i in range(count)], dtype=torch.float32)


def _zero_terminal_snr(products: torch.Tensor) -> torch.Tensor:
    """Lin et al. 2023 (arXiv:2305.08891), alg. 1: no signal is left at the last time."""
    roots = products.sqrt()
    scaled = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    squares = scaled**2
    # By way of the betas and back, as a checkpoint's training went.
    alphas = torch.cat([squares[:1], squares[1:] / squares[:-1]])
    return torch.cumprod(1.0 - (1 - alphas), dim=0)
