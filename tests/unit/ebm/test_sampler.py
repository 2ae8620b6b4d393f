"""A chain's steps: previews, how many sweeps a step takes, failures of single rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from services.engine.contract import FinishReason, Preview, StepOutput
from services.engine.errors import DeviceFailure
from services.families.ebm.langevin import annealed
from services.families.ebm.model import ANY_CLASS, EnergyNet
from services.families.ebm.params import ChainParams, ScoreParams
from services.families.ebm.sampler import EbmSampler
from services.families.ebm.scoring import ScoreChunk
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Writing, preview_steps
from tests.unit.ebm.tiny import SHAPE, make_net, pixels_of


def row(seed: int, steps: int = 12, *, previews: int = 0, temperature: float = 1.0, label: int = 0) -> ChainParams:
    drawing = Drawing(seed, 0, Writing("png", 90), 1, steps=steps, previews=preview_steps(previews, steps))
    chain = annealed(steps, rate=SHAPE.rate, high=SHAPE.high, low=SHAPE.low)
    return ChainParams("image", label, chain, temperature, drawing)


def make_sampler(net: EnergyNet | None = None, *, rows: int = 8, sweeps: int = 5) -> EbmSampler:
    return EbmSampler(net or make_net(), max_batch_size=rows, sweeps_per_step=sweeps)


def run(sampler: EbmSampler, params: Sequence[ChainParams]) -> list[list[StepOutput[object]]]:
    """All outputs of each row, stepped together to their ends."""
    rows = [sampler.start(each) for each in params]
    given: list[list[StepOutput[object]]] = [[] for _ in rows]
    while live := [i for i in range(len(rows)) if not given[i] or given[i][-1].finish_reason is None]:
        for i, output in zip(live, sampler.step([rows[i] for i in live]), strict=True):
            given[i].append(output)
    for each in rows:
        sampler.release(each)
    return given


def image(outputs: list[StepOutput[object]]) -> ImageChunk:
    chunk = outputs[-1].chunk
    assert isinstance(chunk, ImageChunk)
    assert not chunk.is_preview
    return chunk


def previews(outputs: list[StepOutput[object]]) -> list[ImageChunk]:
    return [each.chunk.chunk for each in outputs if isinstance(each.chunk, Preview)]


@pytest.mark.parametrize("sweeps", [1, 3, 5, 50])
def test_an_image_and_its_previews_do_not_depend_on_how_many_sweeps_a_step_takes(sweeps: int) -> None:
    net = make_net().double()
    (expected,) = run(make_sampler(net, sweeps=4), [row(1, previews=3)])
    (outputs,) = run(make_sampler(net, sweeps=sweeps), [row(1, previews=3)])
    assert np.array_equal(image(outputs).pixels, image(expected).pixels)
    assert [chunk.step for chunk in previews(outputs)] == [3, 6, 9]
    for ours, theirs in zip(previews(outputs), previews(expected), strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
    assert image(outputs).step == image(outputs).steps == 12


def test_every_preview_comes_even_where_each_sweep_owes_one() -> None:
    (outputs,) = run(make_sampler(sweeps=5), [row(1, steps=6, previews=16)])
    assert [chunk.step for chunk in previews(outputs)] == [1, 2, 3, 4, 5]


def test_a_step_takes_so_many_sweeps_of_each_row_and_ends_with_the_row() -> None:
    outputs = run(make_sampler(sweeps=5), [row(1, steps=12), row(2, steps=3), row(3, steps=1)])
    assert [[output.units for output in each] for each in outputs] == [[5, 5, 2], [3], [1]]
    assert all(each[-1].finish_reason is FinishReason.STOP for each in outputs)


def test_images_differ_by_seed_class_and_temperature() -> None:
    net = make_net()
    rows = [row(1), row(2), row(1, label=1), row(1, temperature=0.25)]
    pictures = [image(outputs).pixels.astype(int) for outputs in run(make_sampler(net), rows)]
    assert all(np.abs(pictures[0] - other).max() > 4 for other in pictures[1:])


def test_a_row_that_is_not_finite_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_net()
    sampler = make_sampler(net)
    rows = [sampler.start(row(seed)) for seed in range(3)]
    original = net.residual

    def spoilt(images: Tensor, labels: Tensor, *, create_graph: bool = False) -> Tensor:
        residual = original(images, labels).clone()
        residual[1, 0, 3, 3] = torch.nan
        return residual

    monkeypatch.setattr(net, "residual", spoilt)
    outputs = sampler.step(rows)
    assert [output.finish_reason for output in outputs] == [None, FinishReason.ERROR, None]
    assert outputs[1].chunk is None


def test_a_score_that_is_not_finite_fails_alone() -> None:
    sampler = make_sampler()
    broken = pixels_of().float()
    broken[0, 0, 0] = torch.inf
    rows = [sampler.start(ScoreParams(each, ANY_CLASS)) for each in (pixels_of().float(), broken)]
    first, second = sampler.step(rows)
    assert isinstance(first.chunk, ScoreChunk)
    assert (first.finish_reason, second.finish_reason) == (FinishReason.STOP, FinishReason.ERROR)


def test_scores_and_chains_never_share_a_step_and_chains_of_all_kinds_do() -> None:
    sampler = make_sampler()
    chains = {sampler.batch_key(each) for each in (row(1), row(2, steps=3, temperature=0.5), row(3, label=ANY_CLASS))}
    scores = {sampler.batch_key(ScoreParams(pixels_of(), label)) for label in (0, ANY_CLASS)}
    assert len(chains) == len(scores) == 1
    assert chains != scores


def test_a_device_that_fails_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_net()

    def broken(images: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(net, "forward", broken)
    sampler = make_sampler(net)
    for params in (row(0), ScoreParams(pixels_of(), 0)):
        with pytest.raises(DeviceFailure):
            sampler.step([sampler.start(params)])


def test_no_more_rows_than_a_batch_run_together_and_each_is_released_once() -> None:
    sampler = make_sampler(rows=2)
    rows = [sampler.start(row(seed)) for seed in range(2)]
    assert sampler.fits(row(2), rows[:1])
    assert not sampler.fits(row(2), rows)
    sampler.release(rows[0])
    with pytest.raises(KeyError):
        sampler.release(rows[0])
