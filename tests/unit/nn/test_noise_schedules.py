"""Every solver's table takes the steps that diffusers' own scheduler takes, over whole trajectories of a toy model.

The model is a smooth function of sample and time, in float64. DDIM and DDPM are compared with diffusers' tables widened
to float64, and agree to rounding. Euler, DPM-Solver++ and flow Euler round their sigmas (and Euler and flow their
samples) to float32 inside diffusers, which leaves a few units of 1e-6 of the sample's size.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from pydantic import ValidationError
from torch import Tensor

from services.nn.noise_schedules import FlowConfig, FlowSchedule, GaussianConfig, GaussianSchedule
from services.nn.solvers import COLUMNS, Prediction, SolverTable, StepsNotPossible

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own

STEPS = (1, 2, 10, 20, 50)
SHAPE = (2, 3, 8, 8)
EXACT, SINGLE = 1e-10, 2e-5  # of the largest value so far of a trajectory

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stable_diffusion": STABLE_DIFFUSION | {"steps_offset": 1, "set_alpha_to_one": False},
    "leading": STABLE_DIFFUSION | {"timestep_spacing": "leading"},
    "trailing": STABLE_DIFFUSION | {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace", "clip_sample_range": 0.7},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500},
    "betas": {"trained_betas": [0.01 + 0.0001 * i for i in range(100)]} | {"num_train_timesteps": 100},
}
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v_prediction", "sample")


def toy_model(x: Tensor, time: Tensor | float) -> Tensor:
    """Something smooth of the sample and its time, of the size of unit noise."""
    return torch.tanh(0.7 * x + 0.3 * x.roll(1, -1)) + 0.1 * math.sin(float(time) / 300)


def follow(table: SolverTable, x: Tensor, noises: list[Tensor]) -> list[Tensor]:
    """The samples after each step of a table, one row."""
    previous = torch.zeros_like(x)
    trajectory: list[Tensor] = []
    for line, noise in zip(table.steps.tolist(), noises, strict=True):
        at = dict(zip(COLUMNS, line, strict=True))
        out = toy_model(x * at["scale"], at["time"])
        clean = (at["x0_x"] * x + at["x0_out"] * out).clamp(-at["clip"], at["clip"])
        x = at["to_x"] * x + at["to_out"] * out + at["to_x0"] * clean
        x = x + at["to_previous"] * previous + at["to_noise"] * noise
        previous = clean
        trajectory.append(x)
    return trajectory


def follow_diffusers(scheduler: Any, x: Tensor, **options: Any) -> list[Tensor]:
    trajectory: list[Tensor] = []
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(toy_model(scaled, time), time, x, return_dict=False, **options)[0]
        trajectory.append(x)
    return trajectory


def start(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check(table: SolverTable, ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    assert len(table) == len(ours) == len(theirs)
    size = max(1.0, table.start)
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        size = max(size, b.abs().max().item())
        assert (a - b).abs().max().item() <= tolerance * size, f"step {step}"


def schedule_of(name: str, prediction: Prediction, **changes: Any) -> tuple[GaussianSchedule, dict[str, Any]]:
    config = CONFIGS[name] | {"prediction_type": prediction} | changes
    return GaussianSchedule(GaussianConfig.model_validate(config)), config


def made(kind: Any, config: dict[str, Any], steps: int) -> Any:
    """diffusers' scheduler as it is made from a checkpoint's file, set to a number of steps."""
    scheduler = kind.from_config(config)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # as diffusers' pipelines do: times may repeat
    return scheduler


def widened(scheduler: Any) -> Any:
    """The same scheduler, computing its coefficients in float64 from its float32 table."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    for name in ("final_alpha_cumprod", "one"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    return scheduler


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_takes_the_steps_of_diffusers(name: str, prediction: Prediction, steps: int) -> None:
    schedule, config = schedule_of(name, prediction)
    table, x = schedule.table("ddim", steps), start()
    theirs = follow_diffusers(widened(made(DDIMScheduler, config, steps)), x)
    check(table, follow(table, x, [x] * steps), theirs, EXACT)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddpm_takes_the_steps_and_the_noise_of_diffusers(name: str, prediction: Prediction, steps: int) -> None:
    schedule, config = schedule_of(name, prediction)
    table, x = schedule.table("ddpm", steps), start()
    ours = torch.Generator().manual_seed(1)
    noises = [torch.randn(SHAPE, generator=ours, dtype=x.dtype) for _ in range(steps)]
    scheduler = widened(made(DDPMScheduler, config, steps))
    theirs = follow_diffusers(scheduler, x, generator=torch.Generator().manual_seed(1))
    check(table, follow(table, x, noises), theirs, EXACT)


def test_ddpm_with_large_variance_takes_the_steps_of_diffusers() -> None:
    schedule, config = schedule_of("plain", "epsilon", variance_type="fixed_large")
    table, x = schedule.table("ddpm", 20), start()
    generator = torch.Generator().manual_seed(1)
    noises = [torch.randn(SHAPE, generator=generator, dtype=x.dtype) for _ in range(20)]
    scheduler = widened(made(DDPMScheduler, config, 20))
    check(table, follow(table, x, noises), follow_diffusers(scheduler, x, generator=generator.manual_seed(1)), EXACT)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_euler_takes_the_steps_of_diffusers(name: str, prediction: Prediction, steps: int) -> None:
    schedule, config = schedule_of(name, prediction)
    table = schedule.table("euler", steps)
    scheduler = made(EulerDiscreteScheduler, config, steps)
    x = start() * table.start
    assert table.start == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-5)
    check(table, follow(table, x, [x] * steps), follow_diffusers(scheduler, x), SINGLE)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_dpm_solver_takes_the_steps_of_diffusers(name: str, prediction: Prediction, steps: int) -> None:
    schedule, config = schedule_of(name, prediction)
    table, x = schedule.table("dpmpp_2m", steps), start()
    theirs = follow_diffusers(made(DPMSolverMultistepScheduler, config, steps), x)
    check(table, follow(table, x, [x] * steps), theirs, SINGLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"solver_type": "heun"},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False},
        {"final_sigmas_type": "sigma_min", "euler_at_final": True},
        {"use_karras_sigmas": True},
        {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1},
        {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True, "prediction_type": "v_prediction"},
        {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ],
)
@pytest.mark.parametrize("steps", [10, 20])
def test_options_of_dpm_solver_are_those_of_diffusers(changes: dict[str, Any], steps: int) -> None:
    schedule, config = schedule_of("stable_diffusion", "epsilon", **changes)
    table, x = schedule.table("dpmpp_2m", steps), start()
    theirs = follow_diffusers(made(DPMSolverMultistepScheduler, config, steps), x)
    check(table, follow(table, x, [x] * steps), theirs, SINGLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_karras_sigmas": True},
        {"use_karras_sigmas": True, "sigma_min": 0.03, "sigma_max": 12.0},
        {"final_sigmas_type": "sigma_min"},
        {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ],
)
def test_options_of_euler_are_those_of_diffusers(changes: dict[str, Any]) -> None:
    schedule, config = schedule_of("stable_diffusion", "epsilon", **changes)
    table = schedule.table("euler", 20)
    x = start() * table.start
    check(table, follow(table, x, [x] * 20), follow_diffusers(made(EulerDiscreteScheduler, config, 20), x), SINGLE)


def test_trailing_times_are_as_many_as_steps_and_those_of_diffusers_where_it_has_as_many() -> None:
    schedule, config = schedule_of("trailing", "epsilon")
    differing = 0
    for steps in range(1, 1001):
        times = schedule.table("ddim", steps).column("time").tolist()
        assert len(times) == steps
        theirs = made(DDIMScheduler, config, steps).timesteps.tolist()
        assert times == theirs[:steps]
        differing += len(theirs) != steps
    assert differing == 62, "of a thousand, diffusers has one too many for these"


def test_betas_are_as_many_as_times() -> None:
    with pytest.raises(ValidationError, match="these are 99, not num_train_timesteps"):
        GaussianConfig.model_validate({"trained_betas": [0.1] * 99, "num_train_timesteps": 100})


def test_a_zero_terminal_signal_is_that_of_diffusers() -> None:
    changes = {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    schedule, config = schedule_of("stable_diffusion", "v_prediction", **changes)
    table, x = schedule.table("ddim", 20), start()
    theirs = follow_diffusers(widened(made(DDIMScheduler, config, 20)), x)
    check(table, follow(table, x, [x] * 20), theirs, EXACT)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_euler_takes_the_steps_of_diffusers(shift: float, steps: int) -> None:
    config = {"shift": shift}
    table, x = FlowConfig.model_validate(config).schedule().table("flow_euler", steps), start()
    scheduler = made(FlowMatchEulerDiscreteScheduler, config, steps)
    check(table, follow(table, x, [x] * steps), follow_diffusers(scheduler, x), SINGLE)


@pytest.mark.parametrize("steps", STEPS)
def test_an_even_flow_goes_from_noise_to_data_in_equal_steps_as_diffusers_does_when_told_to(steps: int) -> None:
    table, x = FlowSchedule(shift=2.0, time_scale=1000.0).table("flow_euler", steps), start()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    check(table, follow(table, x, [x] * steps), follow_diffusers(scheduler, x), SINGLE)


@pytest.mark.parametrize(
    ("solver", "kind"),
    [
        ("ddim", DDIMScheduler),
        ("ddpm", DDPMScheduler),
        ("euler", EulerDiscreteScheduler),
        ("dpmpp_2m", DPMSolverMultistepScheduler),
    ],
)
def test_a_clean_sample_is_noised_to_the_level_of_a_step_as_diffusers_noises_it(solver: Any, kind: Any) -> None:
    schedule, config = schedule_of("stable_diffusion", "epsilon")
    table, scheduler = schedule.table(solver, 10), made(kind, config, 10)
    clean, noise = start(1), start(2)
    for step, time in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(step)
        signal, deviation = table.levels[step].tolist()
        theirs = scheduler.add_noise(clean, noise, time[None])
        torch.testing.assert_close(signal * clean + deviation * noise, theirs, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("first", [3, 9])
def test_a_late_start_of_dpm_solver_looks_at_no_step_that_was_not_taken(first: int) -> None:
    schedule, config = schedule_of("stable_diffusion", "epsilon")
    table, x = schedule.table("dpmpp_2m", 10, first), start()
    scheduler = made(DPMSolverMultistepScheduler, config, 10)
    scheduler.set_begin_index(first)
    scheduler.timesteps = scheduler.timesteps[first:]
    # Its rule for the last step counts the steps that are left, as it does behind diffusers' own pipelines.
    check(table, follow(table, x, [x] * (10 - first)), _late(scheduler, x, first), SINGLE)


def _late(scheduler: Any, x: Tensor, first: int) -> list[Tensor]:
    times = scheduler.timesteps
    scheduler.timesteps = torch.cat([torch.full((first,), 1000), times])
    trajectory: list[Tensor] = []
    for time in times:
        x = scheduler.step(toy_model(x, time), time, x, return_dict=False)[0]
        trajectory.append(x)
    return trajectory


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "euler"])
def test_a_late_start_is_the_tail_of_the_whole(solver: Any) -> None:
    schedule, _ = schedule_of("stable_diffusion", "epsilon")
    whole, late = schedule.table(solver, 10), schedule.table(solver, 10, 4)
    assert torch.equal(whole.steps[4:], late.steps)
    assert torch.equal(whole.levels[4:], late.levels)


def test_only_solvers_that_use_them_draw_noise_or_look_back() -> None:
    schedule, _ = schedule_of("plain", "epsilon")
    tables = {solver: schedule.table(solver, 10) for solver in schedule.solvers}
    assert {solver for solver, table in tables.items() if table.draws_noise} == {"ddpm"}
    assert {solver for solver, table in tables.items() if table.looks_back} == {"dpmpp_2m"}


@pytest.mark.parametrize(("solver", "steps"), [("ddim", 1001), ("ddpm", 1001), ("euler", 1001), ("dpmpp_2m", 1000)])
def test_more_steps_than_the_schedule_has_are_refused(solver: Any, steps: int) -> None:
    schedule, _ = schedule_of("plain", "epsilon")
    with pytest.raises(StepsNotPossible):
        schedule.table(solver, steps)


def test_an_offset_beyond_the_last_time_is_refused() -> None:
    schedule, _ = schedule_of("stable_diffusion", "epsilon")
    with pytest.raises(StepsNotPossible, match="distinct steps"):
        schedule.table("ddim", 1000)


def test_a_schedule_that_divides_by_zero_is_refused() -> None:
    schedule, _ = schedule_of("trailing", "epsilon", rescale_betas_zero_snr=True)
    with pytest.raises(StepsNotPossible, match="cannot be solved"):
        schedule.table("ddim", 10)


@pytest.mark.parametrize(
    "unknown",
    [
        {"thresholding": True},
        {"prediction_type": "score"},
        {"beta_schedule": "sigmoid"},
        {"variance_type": "learned_range"},
        {"use_beta_sigmas": True},
        {"use_flow_sigmas": True},
    ],
)
def test_a_schedule_that_asks_for_something_unknown_is_refused(unknown: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GaussianConfig.model_validate(unknown)


def test_a_flow_that_asks_for_something_unknown_is_refused() -> None:
    with pytest.raises(ValidationError):
        FlowConfig.model_validate({"use_dynamic_shifting": True})
