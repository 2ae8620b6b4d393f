"""A forecast's steps: pieces, blocks, what is drawn, room, failures of single rows."""

from __future__ import annotations

import pytest
import torch

from services.engine.contract import FinishReason
from services.engine.errors import DeviceFailure
from services.families.recurrent.forecasts.params import ForecastParams
from services.families.recurrent.forecasts.sampler import BLOCK, PIECE, ForecastChunk, ForecastSampler
from tests.contract.driver import bare_loop, run_rows
from tests.unit.recurrent.forecasts.tiny import make_forecaster, params_of, wave


def sampler_of(memory: int = 2**20) -> ForecastSampler:
    return ForecastSampler(make_forecaster(), 8, memory)


def only_chunk(row: ForecastParams) -> ForecastChunk:
    (chunk,) = bare_loop(sampler_of(), row)
    return chunk


def test_a_long_series_is_read_in_pieces_and_told_in_blocks() -> None:
    row = params_of(wave(PIECE + 10), steps=[1, BLOCK + 3], samples=6)
    sampler = sampler_of()
    state = sampler.start(row)
    outputs = [sampler.step([state])[0] for _ in range(4)]
    assert [output.units for output in outputs] == [PIECE, 10, 6 * BLOCK, 6 * 3]
    assert [output.chunk is None for output in outputs] == [True, True, True, False]
    assert sum(output.units for output in outputs) == row.cost


def test_many_paths_take_a_value_a_step() -> None:
    sampler = sampler_of()
    state = sampler.start(params_of(wave(20), steps=[4], samples=1000))
    assert [sampler.step([state])[0].units for _ in range(3)] == [20, 2000, 2000]


def test_a_step_that_is_asked_for_is_told_the_same_whatever_else_is() -> None:
    few, many = (only_chunk(params_of(wave(30), steps=steps)) for steps in ([3, 9], range(1, 13)))
    assert few.mean == pytest.approx([many.mean[2], many.mean[8]], rel=1e-4)
    assert few.quantiles[1] == pytest.approx([many.quantiles[1][2], many.quantiles[1][8]], rel=1e-4)


def test_quantiles_are_in_order_and_of_the_seed() -> None:
    chunk, again, other = (only_chunk(params_of(wave(30), seed=seed, samples=300)) for seed in (1, 1, 2))
    assert chunk.quantiles == again.quantiles
    assert chunk.quantiles != other.quantiles
    low, middle, high = torch.tensor(chunk.quantiles)
    assert (low < middle).all()
    assert (middle < high).all()


def test_paths_go_on_from_their_own_past() -> None:
    """Of one path each; were they not fed back, a later value would be drawn of the same distribution for all."""
    later = [only_chunk(params_of(wave(30), steps=[6], samples=1, seed=seed)).mean[0] for seed in range(4)]
    assert len(set(later)) == 4
    first = [only_chunk(params_of(wave(30), steps=[1], samples=1, seed=seed)).mean[0] for seed in range(4)]
    assert first == pytest.approx([first[0]] * 4)


def test_values_and_their_season_change_what_is_told() -> None:
    base = only_chunk(params_of(wave(30))).mean
    assert only_chunk(params_of(wave(30)[::-1])).mean != pytest.approx(base, rel=1e-3)
    assert only_chunk(params_of(wave(30), season=1)).mean != pytest.approx(base, rel=1e-3)


def test_a_row_that_is_not_finite_fails_alone() -> None:
    rows = [params_of(wave(20)), params_of([float("nan")] * 20), params_of(wave(20), seed=2)]
    run = run_rows(sampler_of(), rows)
    reasons = [run.final(i).finish_reason for i in (1, 2, 3)]
    assert reasons == [FinishReason.STOP, FinishReason.ERROR, FinishReason.STOP]
    assert run.chunks(1)[0].mean == pytest.approx(only_chunk(rows[0]).mean, rel=1e-4)


def test_rows_share_the_memory_of_paths_and_one_always_fits() -> None:
    sampler = sampler_of(memory=10)
    row = params_of(wave(20))
    first = sampler.start(row)
    assert sampler.fits(row, [])
    assert not sampler.fits(row, [first])
    large = sampler_of(memory=2 * sampler.row_memory(row))
    assert large.fits(row, [first])
    assert not large.fits(row, [first, large.start(row)])


def test_a_row_keeps_no_more_than_it_is_counted_for() -> None:
    sampler = sampler_of()
    states = [sampler.start(params_of(wave(60), season=24, steps=range(1, 25), samples=40, seed=i)) for i in (1, 2)]
    for _ in range(3):
        sampler.step(states)
    for row in states:
        progress = row.progress
        assert progress.state is not None
        assert progress.recent is not None
        tensors = (*progress.state, progress.recent, *progress.drawn)
        kept = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
        assert sum(kept.values()) <= sampler.row_memory(row.params)


def test_a_device_that_fails_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = sampler_of()

    def broken(*given: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampler.model, "read", broken)
    with pytest.raises(DeviceFailure):
        sampler.step([sampler.start(params_of(wave(20)))])
