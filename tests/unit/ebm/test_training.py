"""The training of an energy, through the recipe's own parts: losses, chains that persist, figures, files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from services.families.ebm import evaluation
from services.families.ebm.anomalies import Gaussian, energies
from services.families.ebm.chains import Chains
from services.families.ebm.contrast import Contest, EnergyTraining
from services.families.ebm.drawing import draw_classes, load_energy
from services.families.ebm.evaluation import evaluate_energy
from services.families.ebm.model import EnergyNet
from services.families.ebm.train import DigitsEbm, strange_units
from services.nn.percentiles import read_known
from services.nn.weights import save_model
from services.training import checkpoint
from services.training.held_out import write_held_out
from services.training.image_data import ImageSet, read_split
from services.training.judge import Judge, train_judge
from services.training.loop import Ending, Loop, Plan, make_accelerator
from services.training.recipe import Schedule
from services.training.reporting import Silence
from services.training.separation import auroc
from tests.unit.ebm.tiny import SHAPE, SIDE, make_net, some_images

CONTEST = Contest(energy=SHAPE, chains=24, walked=6, sweeps=4, rate=0.3, restarts=0.2)
SCHEDULE = Schedule(steps=6, batch_size=12, validate_every=3, sample_every=100)


def make_training(data: Path, seed: int = 0, contest: Contest = CONTEST) -> EnergyTraining:
    return EnergyTraining(contest, read_split(data), seed)


def play(training: EnergyTraining, steps: int) -> None:
    """The loop's own steps in small."""
    optimizer = torch.optim.AdamW(training.modules["energy"].parameters(), lr=5e-3, betas=(0.9, 0.99))
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        batch = training.batch(torch.randint(training.examples, (24,), generator=draws), draws)
        loss, _ = training.loss("energy", training.modules, batch, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture
def accelerated() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(data: Path, folder: Path, *, stop_after: int | None = None) -> Ending:
    steps = iter(range(1000))
    plan = Plan(SCHEDULE, folder, 0, should_stop=lambda: next(steps) == stop_after)
    return Loop(make_training(data), plan, make_accelerator("no", cpu=True), Silence()).run()


@pytest.mark.usefixtures("accelerated")
def test_a_resumed_run_goes_on_with_the_chains_and_ends_as_one_that_never_stopped(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "stopped", stop_after=4) is Ending.STOPPED
    assert train(data, tmp_path / "stopped") is Ending.FINISHED
    train(data, tmp_path / "whole")
    stopped, whole = (checkpoint.checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("stopped", "whole"))
    for file in ("chains.safetensors", "energy.safetensors", "energy.average.safetensors"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes()


def test_chains_persist_and_those_not_chosen_stay(data: Path) -> None:
    training = make_training(data, contest=replace(CONTEST, restarts=0.0))
    chains = training.modules["chains"]
    assert isinstance(chains, Chains)
    before = chains.images(torch.arange(len(chains)))
    play(training, 1)
    after = chains.images(torch.arange(len(chains)))
    moved = (after != before).flatten(1).any(dim=1)
    assert moved.sum() == CONTEST.walked
    assert after[moved].square().mean() < before[moved].square().mean(), "noise becomes less"


def test_a_chain_that_starts_anew_forgets_where_it_was(data: Path) -> None:
    twins = [make_training(data, contest=replace(CONTEST, restarts=1.0)) for _ in range(2)]
    first, second = (each.modules["chains"] for each in twins)
    assert isinstance(first, Chains)
    assert isinstance(second, Chains)
    everywhere = torch.arange(len(second))
    second.put(everywhere, second.images(everywhere) + 3)
    for each in twins:
        play(each, 1)
    moved = (first.images(everywhere) - second.images(everywhere)).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert moved.sum() == CONTEST.walked


def test_chains_keep_every_bit_and_are_no_floats_that_workers_would_average() -> None:
    images = some_images(3, torch.float32)
    chains = Chains(images, torch.arange(3))
    assert torch.equal(chains.images(torch.tensor([2, 0])), images[[2, 0]])
    assert not any(buffer.is_floating_point() for buffer in chains.buffers())
    chains.put(torch.tensor([1]), images[:1])
    assert torch.equal(chains.images(torch.arange(3)), images[[0, 0, 2]])


def test_the_same_seed_begins_with_the_same_weights_and_chains(data: Path) -> None:
    before = torch.get_rng_state()
    first, again, other = (make_training(data, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name in ("energy", "chains"):
        state, same, different = (each.modules[name].state_dict() for each in (first, again, other))
        assert all(torch.equal(state[key], same[key]) for key in state)
        assert not all(torch.equal(state[key], different[key]) for key in state)


def test_a_fresh_energy_is_centred_on_the_mean_of_the_training_images(data: Path) -> None:
    net = make_training(data).modules["energy"]
    assert isinstance(net, EnergyNet)
    assert torch.allclose(net.centre, read_split(data).train.units().mean(dim=0))


@pytest.mark.slow
def test_a_short_training_learns_the_classes_and_draws_them(data: Path) -> None:
    training = make_training(data)
    split = read_split(data)
    with torch.no_grad():  # as the loop does
        before = training.validate(training.modules)
    play(training, 70)
    with torch.no_grad():
        after = training.validate(training.modules)
    assert after["metric"] < 0.7 * before["metric"]
    assert after["class_accuracy"] > 0.9
    net = training.modules["energy"]
    assert isinstance(net, EnergyNet)
    drawn, asked = draw_classes(net.eval(), torch.arange(3).repeat(10)), torch.arange(3).repeat(10)
    means = torch.stack([split.train.units(split.train.classes == label).mean(dim=0) for label in range(3)])
    nearest = torch.cdist(drawn.flatten(1), means.flatten(1)).argmin(dim=1)
    assert (nearest == asked).float().mean() > 0.9
    noise = torch.rand(30, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert auroc(energies(net, noise), energies(net, split.held_out.units())) > 0.95


def test_the_baseline_is_a_gaussian_s_log_density(data: Path) -> None:
    train = read_split(data).train
    flat = train.units().flatten(1).double()
    covariance = torch.cov(flat.T) + 1e-2 * torch.eye(flat.shape[1], dtype=torch.float64)
    density = torch.distributions.MultivariateNormal(flat.mean(dim=0), covariance)
    images = some_images(4)
    distances, logs = Gaussian(train).distances(images), density.log_prob(images.flatten(1))
    assert torch.allclose(distances - distances[0], -2 * (logs - logs[0]), rtol=1e-6)


def test_emoji_become_grey_on_black() -> None:
    white, red = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    red[:, 0] = 255
    assert torch.allclose(strange_units(white), torch.full((1, 1, 2, 2), -1.0), atol=1e-5)
    assert torch.allclose(strange_units(red), torch.full((1, 1, 2, 2), 1 - 2 * 0.299), atol=1e-5)


def quick_judge(images: ImageSet) -> Judge:
    return train_judge(images, steps=60)


def test_an_evaluation_has_every_figure_beside_its_baseline(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "train_judge", quick_judge)
    save_model(make_net(), SHAPE, tmp_path)
    write_held_out(read_split(data).held_out, tmp_path)
    found = evaluate_energy(tmp_path, read_split(data), some_images(20, torch.float32))
    figures = {figure.name: figure for figure in found.figures}
    assert set(figures) == {
        "frechet_distance",
        "frechet_distance_of_training_images",
        "class_accuracy",
        "class_accuracy_of_held_out_images",
        "sample_frechet_distance",
        "sample_neighbour_accuracy",
        "anomaly_auroc_emoji",
        "anomaly_auroc_noise",
        "anomaly_auroc_mirrored",
        "held_out_energy",
        "energy_class_accuracy",
        "sample_energy_class_accuracy",
        "sample_energy",
    }
    assert all(np.isfinite(figure.value) for figure in found.figures)
    assert all(figures[name].baseline is not None for name in figures if name.startswith("anomaly"))
    assert set(found.sheets) == {"classes", "chains", "temperature"}


def test_an_export_is_what_serving_loads_with_what_scores_are_compared_with(data: Path, tmp_path: Path) -> None:
    class Tiny(DigitsEbm):
        contest = CONTEST

    split = read_split(data)
    Tiny().export({"energy": make_net()}, data, tmp_path)
    net = load_energy(tmp_path)
    known = read_known(tmp_path, ("energy", "class_energy"))
    assert set(known) == {"energy", "class_energy"}
    over_all = -energies(net, split.held_out.units())
    assert known["energy"].percentile(over_all.min().item() - 1).held_out == 0
    assert known["energy"].percentile(over_all.median().item()).held_out == pytest.approx(50, abs=5)
    of_class = -energies(net, split.train.units(), split.train.classes)
    assert known["class_energy"].percentile(of_class.max().item() + 1).training == 100


def test_the_recipe_s_weights_keep_to_their_budget(tmp_path: Path) -> None:
    recipe = DigitsEbm()
    shape = recipe.contest.energy
    save_model(make_net(shape), shape, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
    assert shape.image_size == 28
