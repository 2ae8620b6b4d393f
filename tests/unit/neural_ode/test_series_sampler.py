"""A forecast's steps: what they read and draw, blocks, room, failures of single rows."""

from __future__ import annotations

import pytest
import torch

from services.engine.contract import FinishReason
from services.engine.errors import DeviceFailure
from services.families.neural_ode.series.params import ForecastParams, Grid
from services.families.neural_ode.series.sampler import BLOCK, ForecastChunk, SeriesSampler
from services.families.neural_ode.series.scaling import scale_series
from services.families.neural_ode.solvers import METHODS, solve
from services.nn.rng import row_generator
from tests.contract.driver import bare_loop, run_rows
from tests.unit.neural_ode.tiny import make_latent_ode

VALUES = [1.0, 3.0, 2.0, 4.0, 3.0, 5.0, 4.0, 6.0]


def row_of(
    targets: list[float], *, seed: int = 1, samples: int = 20, values: list[float] | None = None
) -> ForecastParams:
    observed = VALUES if values is None else values
    series = scale_series([float(i) for i in range(len(observed))], observed)
    times = tuple(series.last + target for target in targets)
    return ForecastParams(series, times, Grid.of(targets, 0.5), (0.1, 0.5, 0.9), samples, seed)


def sampler_of(memory: int = 2**20) -> SeriesSampler:
    return SeriesSampler(make_latent_ode(), 8, memory)


def only_chunk(row: ForecastParams) -> ForecastChunk:
    (chunk,) = bare_loop(sampler_of(), row)
    return chunk


def test_a_row_takes_a_block_of_its_grid_a_step() -> None:
    row = row_of([1.0, 9.0])
    sampler = sampler_of()
    state = sampler.start(row)
    outputs = [sampler.step([state])[0] for _ in range(3)]
    assert len(row.grid.widths) == 18
    assert [output.units for output in outputs] == [20 * BLOCK, 20 * BLOCK, 20 * 2]
    assert [output.chunk is None for output in outputs] == [True, True, False]
    assert sum(output.units for output in outputs) == row.cost


def test_the_mean_is_that_of_the_paths_solved_at_once() -> None:
    model = make_latent_ode()
    row = row_of([2.0, 5.0])
    mean, deviation = model.read(row.series.observations[None])
    start = mean + deviation * torch.randn(20, model.config.latent, generator=row_generator(1))
    whole = [
        row.series.values_of(model.decode(solve(model, start, 0.0, end, steps=int(2 * end), method=METHODS["rk4"]))[0])
        for end in (2.0, 5.0)
    ]
    assert only_chunk(row).mean == pytest.approx([values.mean().item() for values in whole], rel=1e-4)


def test_quantiles_are_of_draws_about_the_mean_and_repeat_with_the_seed() -> None:
    chunk, again, other = (only_chunk(row_of([1.0, 3.0], seed=seed, samples=400)) for seed in (1, 1, 2))
    assert chunk == again or chunk.quantiles == again.quantiles
    assert chunk.quantiles != other.quantiles
    low, middle, high = torch.tensor(chunk.quantiles)
    assert (low < middle).all()
    assert (middle < high).all()
    assert (low < torch.tensor(chunk.mean)).all()


def test_what_was_observed_and_when_changes_what_is_told() -> None:
    base = only_chunk(row_of([1.0]))
    assert only_chunk(row_of([1.0], values=VALUES[::-1])).mean != pytest.approx(base.mean, rel=1e-3)
    series = scale_series([0.0, 0.5, 1.0, 4.0, 5.0, 6.0, 6.5, 7.0], VALUES)
    irregular = ForecastParams(series, (8.0,), Grid.of([1.0], 0.5), (0.5,), 20, 1)
    assert only_chunk(irregular).mean != pytest.approx(base.mean, rel=1e-3)


def test_a_row_that_is_not_finite_fails_alone() -> None:
    rows = [row_of([1.0]), row_of([1.0], values=[float("nan")] * 8), row_of([1.0], seed=2)]
    run = run_rows(sampler_of(), rows)
    reasons = [run.final(i).finish_reason for i in (1, 2, 3)]
    assert reasons == [FinishReason.STOP, FinishReason.ERROR, FinishReason.STOP]
    assert run.chunks(1)[0].mean == pytest.approx(only_chunk(rows[0]).mean, rel=1e-4)


def test_rows_share_the_memory_of_paths_and_one_always_fits() -> None:
    sampler = sampler_of(memory=10)
    first = sampler.start(row_of([1.0]))
    assert sampler.fits(row_of([1.0]), [])
    assert not sampler.fits(row_of([1.0]), [first])
    large = sampler_of(memory=10 * sampler.row_memory(row_of([1.0])))
    assert large.fits(row_of([1.0]), [first])


def test_a_device_that_fails_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = sampler_of()

    def broken(latent: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampler.model, "forward", broken)
    with pytest.raises(DeviceFailure):
        sampler.step([sampler.start(row_of([1.0]))])
