"""The chains: what they draw, what stays clamped, and failures of single rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from services.engine.contract import FinishReason, Preview
from services.engine.errors import DeviceFailure
from services.families.boltzmann.model import Machine, MachineConfig
from services.families.boltzmann.params import ChainParams, Origin
from services.families.boltzmann.reading import Reader
from services.families.boltzmann.sampler import BoltzmannSampler
from services.families.boltzmann.state import ChainState, thresholds
from services.nn.canvas import Drawing
from services.nn.images import Writing
from services.nn.rng import row_generator
from tests.contract.driver import run_rows
from tests.unit.boltzmann.tiny import CLASSES, DBM, RBM, exact_likelihoods, make_machine, states

LARGE = MachineConfig(classes=CLASSES, side=28, hidden=96, top=40)


def chain(seed: int, sweeps: int, *, label: int | None = 0, temperature: float = 1.0, **fields: Any) -> ChainParams:
    previews = fields.get("previews", frozenset[int]())
    drawing = Drawing(seed, label or 0, Writing("png", 90), 1, steps=sweeps, previews=previews)
    return ChainParams("image", seed, label, sweeps, temperature, drawing, **fields)


def make_sampler(machine: Machine, rows: int = 64, sweeps_a_step: int = 10) -> BoltzmannSampler:
    return BoltzmannSampler(machine, Reader(machine), {}, rows, sweeps_a_step)


def last_states(machine: Machine, rows: Sequence[ChainParams], sweeps_a_step: int = 10) -> list[torch.Tensor]:
    """The even units of each row after its last sweep, all rows together."""
    sampler = make_sampler(machine, len(rows), sweeps_a_step)
    running = [sampler.start(row) for row in rows]
    finished: dict[int, torch.Tensor] = {}
    while len(finished) < len(rows):
        going = [i for i in range(len(rows)) if i not in finished]
        for i, output in zip(going, sampler.step([running[i] for i in going]), strict=True):
            state = running[i]
            if output.finish_reason is FinishReason.STOP and isinstance(state, ChainState):
                finished[i] = state.progress.even
    return [finished[i] for i in range(len(rows))]


def test_a_chain_of_the_published_size_is_the_same_to_the_last_bit_in_any_batch() -> None:
    machine = make_machine(LARGE, spread=0.2)
    rows = [chain(seed, 13 + 7 * seed, label=seed % 3, temperature=0.8 + 0.1 * seed) for seed in range(6)]
    rows.append(chain(9, 25, label=None, origin=Origin(torch.arange(28 * 28) % 3 == 0)))
    together = last_states(machine, rows)
    for row, found in zip(rows, together, strict=True):
        assert torch.equal(last_states(machine, [row])[0], found)


def test_how_many_sweeps_a_step_makes_changes_no_chain() -> None:
    machine = make_machine(DBM)
    rows = [chain(seed, 30) for seed in range(5)]
    for one, other in zip(last_states(machine, rows, 10), last_states(machine, rows, 7), strict=True):
        assert torch.equal(one, other)


def test_chains_of_rows_reach_the_exact_distribution() -> None:
    machine = make_machine(RBM, spread=0.5)
    rows = [chain(seed, 20, label=2) for seed in range(400)]
    found = torch.stack(last_states(machine, rows, sweeps_a_step=20)).double().mean(0)
    exact = exact_likelihoods(machine)[2].exp() @ states(RBM.visible)
    assert (found - exact).abs().max() < 4 * 0.5 / 400**0.5


def test_temperature_divides_log_odds() -> None:
    """A unit of log-odds x turns on with probability sigmoid(x / T)."""
    x = torch.tensor([-1.0, 0.0, 0.5, 3.0])
    for temperature in (0.5, 1.0, 2.0):
        limits = thresholds(row_generator(0), (40_000, 4), temperature)
        met = (x > limits).double().mean(0)
        assert torch.allclose(met, torch.sigmoid(x / temperature).double(), atol=0.01)


def test_a_low_temperature_draws_likelier_images() -> None:
    machine = make_machine(RBM, spread=1.0)
    likely = exact_likelihoods(machine)[0]

    def mean(temperature: float) -> float:
        found = last_states(machine, [chain(seed, 20, temperature=temperature) for seed in range(100)], 20)
        numbers = [int((even.long() << torch.arange(RBM.visible)).sum()) for even in found]
        return float(likely[numbers].mean())

    assert mean(0.3) > mean(1.0) > mean(2.0)


def test_known_pixels_come_back_black_or_white_and_the_others_are_drawn() -> None:
    machine = make_machine(DBM)
    visible, known = torch.arange(9) % 2 == 0, torch.arange(9) < 5
    row = chain(3, 20, origin=Origin(visible, known), previews=frozenset({5}))
    run = run_rows(make_sampler(machine), [row])
    given = [output.chunk for output in run.outputs[1] if output.chunk is not None]
    images = [each.chunk.pixels if isinstance(each, Preview) else each.pixels for each in given]
    assert len(images) == 2
    for pixels in images:
        flat = torch.from_numpy(pixels).flatten()
        assert torch.equal(flat[:5], (visible[:5] * 255).to(torch.uint8))
        assert not torch.isin(flat[5:], torch.tensor([0, 255])).all()
    other = run_rows(make_sampler(machine), [chain(4, 20, origin=Origin(visible, known))]).chunks(1)[0].pixels
    assert not torch.equal(torch.from_numpy(other).flatten()[5:], flat[5:])


def test_a_clamped_chain_reaches_the_distribution_given_what_is_known() -> None:
    machine = make_machine(RBM, spread=0.7)
    visible, known = torch.tensor([True, False] * 4 + [True]), torch.arange(9) < 6
    rows = [chain(seed, 20, label=1, origin=Origin(visible, known)) for seed in range(400)]
    found = torch.stack(last_states(machine, rows, 20)).double().mean(0)
    images = states(9)
    fits = (images[:, :6] == visible[:6].double()).all(1)
    chance = torch.softmax(exact_likelihoods(machine)[1].where(fits, torch.tensor(-torch.inf).double()), 0)
    assert (found - chance @ images).abs().max() < 4 * 0.5 / 400**0.5


def test_previews_change_no_image() -> None:
    machine = make_machine(DBM)
    plain, watched = chain(1, 25), chain(1, 25, previews=frozenset({3, 11, 24}))
    run = run_rows(make_sampler(machine), [plain, watched])
    (image,), (same,) = run.chunks(1), run.chunks(2)
    assert (image.pixels == same.pixels).all()
    previews = [output.chunk.chunk for output in run.outputs[2] if isinstance(output.chunk, Preview)]
    assert [(each.step, each.steps, each.is_preview) for each in previews] == [(k, 25, True) for k in (3, 11, 24)]
    assert not image.is_preview
    assert image.step == 25


def test_a_chain_that_starts_from_an_image_finds_its_class_unless_one_is_named() -> None:
    machine = make_machine(RBM, spread=1.5)
    image = states(9)[85].bool()
    likeliest = int(Reader(machine).read(image[None]).posterior.argmax())
    for label, found in ((None, likeliest), ((likeliest + 1) % 3, (likeliest + 1) % 3)):
        sampler = make_sampler(machine)
        state = sampler.start(chain(0, 5, label=label, origin=Origin(image)))
        assert isinstance(state, ChainState)
        assert torch.equal(state.progress.even.bool(), image)
        sampler.step([state])
        assert state.progress.label == found


def test_a_step_that_fails_leaves_states_and_generators_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = make_machine(DBM)
    sampler = make_sampler(machine)
    rows = [sampler.start(chain(seed, 30, label=None, origin=Origin(states(9)[seed].bool()))) for seed in (1, 2)]
    chains = [row for row in rows if isinstance(row, ChainState)]
    before = [(row.progress, row.progress.generator.get_state(), row.progress.even.clone()) for row in chains]

    def broken(*given: object) -> None:
        raise RuntimeError("injected fault")

    with monkeypatch.context() as patched:
        patched.setattr(sampler, "_means", broken)
        patched.setattr(sampler, "_sweeps_a_step", 30)
        with pytest.raises(RuntimeError):
            sampler.step(rows)
    for row, (progress, drawn, even) in zip(chains, before, strict=True):
        assert row.progress is progress
        assert torch.equal(progress.generator.get_state(), drawn)
        assert torch.equal(progress.even, even)


def test_a_row_that_is_not_finite_fails_alone() -> None:
    machine = make_machine(RBM)
    machine.even_bias.data[1, 4] = torch.nan
    sampler = make_sampler(machine)
    outputs = sampler.step([sampler.start(chain(seed, 10, label=seed)) for seed in range(3)])
    assert [output.finish_reason for output in outputs] == [FinishReason.STOP, FinishReason.ERROR, FinishReason.STOP]
    assert outputs[1].chunk is None


def test_a_device_that_fails_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = make_sampler(make_machine(RBM))
    state = sampler.start(chain(0, 10))

    def broken(moves: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampler, "_sweep", broken)
    with pytest.raises(DeviceFailure):
        sampler.step([state])


def test_a_state_is_released_once() -> None:
    sampler = make_sampler(make_machine(RBM))
    state = sampler.start(chain(0, 10))
    sampler.release(state)
    with pytest.raises(KeyError):
        sampler.release(state)
