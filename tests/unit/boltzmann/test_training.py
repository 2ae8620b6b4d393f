"""Learning by persistent chains, through the recipe's own parts and the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from services.families.boltzmann import evaluation, export
from services.families.boltzmann.evaluation import evaluate_machine
from services.families.boltzmann.learning import CentredMachine, Chains, Lesson, PersistentTraining
from services.families.boltzmann.model import MachineConfig, binary, load_machine
from services.families.boltzmann.train import DigitsDbm, DigitsRbm
from services.nn.percentiles import read_known
from services.nn.weights import save_model
from services.training import checkpoint, judge
from services.training.image_data import ImageSet, read_split
from services.training.judge import train_judge
from services.training.loop import Ending, Loop, Plan, make_accelerator
from services.training.recipe import Schedule
from services.training.reporting import Silence
from tests.unit.boltzmann.tiny import CLASSES, DBM, RBM, exact_likelihoods, exact_partition, make_data

SHAPES = {
    "rbm": MachineConfig(classes=CLASSES, side=6, hidden=8),
    "dbm": MachineConfig(classes=CLASSES, side=6, hidden=8, top=4),
}
SCHEDULE = Schedule(steps=6, batch_size=20, clip=10.0, ema=0.9, validate_every=6, sample_every=6)
BOTH = pytest.mark.parametrize("kind", SHAPES)


def lesson(shape: MachineConfig, **changes: Any) -> Lesson:
    given = {"chains": 8, "sweeps": 2, "restarts": 0.05, "learning_rate": 0.01, "weight_decay": 0.0, "sheet_sweeps": 5}
    return Lesson(shape=shape, **{**given, **changes})


def play(training: PersistentTraining, steps: int, rate: float = 0.02) -> CentredMachine:
    """The loop's own steps in small."""
    modules = dict(training.modules)
    optimizer = torch.optim.AdamW(modules["machine"].parameters(), lr=rate)
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        batch = training.batch(torch.randint(training.examples, (40,), generator=draws), draws)
        loss, _ = training.loss("machine", modules, batch, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return cast(CentredMachine, modules["machine"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(data: Path) -> Callable[..., Ending]:
    def run(folder: Path, kind: str, should_stop: Callable[[], bool] = lambda: False) -> Ending:
        AcceleratorState._reset_state(True)
        training = PersistentTraining(lesson(SHAPES[kind]), read_split(data), 0)
        plan = Plan(SCHEDULE, folder, seed=0, should_stop=should_stop)
        return Loop(training, plan, make_accelerator("no", cpu=True), Silence()).run()

    return run


@BOTH
def test_a_stopped_run_goes_on_with_the_chains_where_they_were(
    tmp_path: Path, run: Callable[..., Ending], kind: str
) -> None:
    steps = iter(range(100))
    assert run(tmp_path / "stopped", kind, lambda: next(steps) == 4) is Ending.STOPPED
    run(tmp_path / "stopped", kind)
    run(tmp_path / "whole", kind)
    stopped, whole = (checkpoint.checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("stopped", "whole"))
    for file in ("chains.safetensors", "machine.safetensors", "machine.average.safetensors"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes()


def test_the_same_seed_begins_with_the_same_weights_and_chains(data: Path) -> None:
    first, again, other = (PersistentTraining(lesson(SHAPES["dbm"]), read_split(data), seed) for seed in (1, 1, 2))
    for name in ("machine", "chains"):
        values, same, different = (each.modules[name].state_dict() for each in (first, again, other))
        assert all(torch.equal(values[key], same[key]) for key in values)
        assert not all(torch.equal(values[key], different[key]) for key in values)


def test_the_loss_s_gradient_is_that_of_the_likelihood_where_chains_are_at_equilibrium(tmp_path: Path) -> None:
    """Chains that hold every state as often as the machine says, against autograd through the exact log Z."""
    split = read_split(make_data(tmp_path, side=3))
    training = PersistentTraining(lesson(RBM, chains=6000, sweeps=15, restarts=0.0), split, 0)
    machine = cast(CentredMachine, training.modules["machine"])
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    batch = training.batch(torch.arange(0, 162, 3), torch.Generator())
    loss, _ = training.loss("machine", training.modules, batch, torch.Generator().manual_seed(0))
    found = torch.autograd.grad(loss, list(machine.parameters()))
    energy, (images, classes) = machine.energy(), batch
    minus = [energy.free_energy(images[classes == label], classes[classes == label]).mean() for label in range(3)]
    exact = torch.stack(minus).mean() + exact_partition(energy).float().mean()
    for estimate, gradient in zip(found, torch.autograd.grad(exact, list(machine.parameters())), strict=True):
        assert (estimate - gradient).abs().max() < 0.1 * gradient.abs().max()


@pytest.mark.parametrize("shape", [RBM, DBM], ids=["rbm", "dbm"])
def test_a_short_lesson_makes_held_out_images_likelier(tmp_path: Path, shape: MachineConfig) -> None:
    """By the exact likelihood, given each image's class."""
    split = read_split(make_data(tmp_path, side=3))
    visible = binary(split.held_out.images)
    numbers = (visible.long() << torch.arange(9)).sum(1)

    def likely(machine: CentredMachine) -> float:
        return float(exact_likelihoods(machine.published())[split.held_out.classes, numbers].mean())

    training = PersistentTraining(lesson(shape, chains=40, sweeps=3), split, 0)
    before = likely(cast(CentredMachine, training.modules["machine"]))
    assert likely(play(training, 80)) > before + 0.05


def test_classes_count_alike_and_one_that_a_batch_lacks_is_left_out(data: Path) -> None:
    training = PersistentTraining(lesson(SHAPES["rbm"], restarts=0.0), read_split(data), 0)
    classes = training.batch(torch.arange(training.examples), torch.Generator())[1]
    chosen = torch.cat([(classes == 0).nonzero()[:9, 0], (classes == 1).nonzero()[:1, 0]])
    images, labels = training.batch(chosen, torch.Generator())
    machine, chains = training.modules["machine"], cast(Chains, training.modules["chains"])
    loss, _ = training.loss("machine", training.modules, (images, labels), torch.Generator().manual_seed(1))
    energy = cast(CentredMachine, machine).energy()
    real = energy.free_energy(images, labels)
    free = energy.free_energy(chains.even.float(), chains.labels)
    by_hand = (real[:9].mean() - free[:8].mean() + real[9:].mean() - free[8:16].mean()) / 2
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-4)
    (gradient,) = torch.autograd.grad(loss, [cast(CentredMachine, machine).even_bias])
    assert gradient[:2].abs().max() > 0
    assert gradient[2].abs().max() == 0


def test_chains_start_anew_at_the_share_that_the_lesson_says() -> None:
    base = torch.tensor([[9.0, 9.0, -9.0]])
    chains = Chains(-base, 4000, seed=0)  # where a start would hardly put them
    energy = CentredMachine(RBM, torch.zeros(3, 9), 0).energy()
    chains.advance(energy, base, lesson(RBM, sweeps=0, restarts=0.1), torch.Generator().manual_seed(0))
    anew = (chains.even == torch.tensor([1, 1, 0])).all(1).double().mean().item()
    assert anew == pytest.approx(0.1, abs=0.02)


@BOTH
def test_a_machine_is_exported_measured_and_described(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(evaluation, "train_judge", quick_judge)
    monkeypatch.setattr(export, "_TEMPERATURES", 50)
    monkeypatch.setattr(export, "_SCORED", 10)
    monkeypatch.setattr(evaluation, "_SEEN", 20)
    monkeypatch.setattr(evaluation, "SWEEPS", 5)
    split = read_split(data)
    machine = play(PersistentTraining(lesson(SHAPES[kind]), split, 0), 30)
    export.export_machine(machine, split, tmp_path)
    config = load_machine(tmp_path, torch.device("cpu")).config
    assert len(config.log_partition) == len(config.log_partition_error) == 3
    metrics = ["elbo"] if kind == "dbm" else ["free_energy", "log_likelihood", "pseudo_log_likelihood"]
    assert read_known(tmp_path, metrics).keys() == set(metrics)
    found = evaluate_machine(tmp_path, split)
    figures = {figure.name: figure for figure in found.figures}
    assert all(np.isfinite(figure.value) for figure in found.figures)
    for name in ("held_out_log_likelihood", "denoising_error", "feature_accuracy", "class_accuracy"):
        assert figures[name].baseline is not None
    assert figures["denoising_error"].baseline == pytest.approx(0.1, abs=0.03)
    assert set(found.sheets) == {"classes", "chains", "filters", "denoising"}
    assert any("log Z" in note and "+-" in note for note in found.notes)


def quick_judge(images: ImageSet) -> judge.Judge:
    return train_judge(images, steps=30)


def test_a_validation_measures_held_out_images_in_nats(data: Path) -> None:
    training = PersistentTraining(lesson(SHAPES["rbm"]), read_split(data), 0)
    with torch.no_grad():
        figures = training.validate(training.modules)
    assert 0 < figures["metric"] < 36 * np.log(2) + 5
    assert figures["class_accuracy"] > 1 / 3


@pytest.mark.parametrize("recipe", [DigitsRbm(), DigitsDbm()], ids=lambda recipe: recipe.name)
def test_a_recipe_s_weights_keep_to_their_budget(recipe: DigitsRbm | DigitsDbm, tmp_path: Path) -> None:
    shape = recipe.lesson.shape
    base: Tensor = torch.zeros(len(shape.classes), shape.even)
    machine = CentredMachine(shape, base, 0).published()
    save_model(machine, machine.config, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
    assert shape.visible == 28 * 28
