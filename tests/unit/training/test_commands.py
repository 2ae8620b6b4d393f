"""`castalia train` and `castalia evaluate`, as they are called."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from services.cli import app
from services.cli.context import Tools
from services.training import checkpoint
from services.training.run import alone
from services.training.run_log import read_log
from tests.unit.training.tiny import REFERENCE, Circle, TinyRecipe, read_points

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CASTALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, obj=Tools(), catch_exceptions=False)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "training" / "tiny-circle"


def test_a_model_is_trained_published_and_measured_again(run: Run, folder: Path) -> None:
    trained = run("train", REFERENCE, "--cpu")
    assert trained.exit_code == 0, trained.output
    assert "step 24: validated: metric" in trained.stderr
    assert "squared error" in trained.stdout
    measured = run("evaluate", REFERENCE, "--weights", str(folder / "export"))
    assert measured.exit_code == 0, measured.output
    assert "outside" not in measured.stdout


def test_evaluating_fails_where_a_figure_leaves_its_tolerance(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("train", REFERENCE, "--cpu")
    monkeypatch.setattr("tests.unit.training.tiny.error", lambda *_: 0.5)
    measured = run("evaluate", REFERENCE, "--weights", str(folder / "export"))
    assert measured.exit_code == 1
    assert "outside" in measured.stdout


class SignalledCircle(Circle):
    """Gets the signal that a service manager sends while it makes its ninth batch."""

    asked = 0

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> Any:
        self.asked += 1
        if self.asked == 9:
            signal.raise_signal(signal.SIGTERM)
        return super().batch(indices, generator)


class SignalledRecipe(TinyRecipe):
    def build(self, data: Path, seed: int) -> Circle:
        return SignalledCircle(read_points(data), seed)


def test_a_signal_stops_at_the_next_step_with_a_checkpoint_and_the_same_command_goes_on(run: Run, folder: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopped = run("train", "tests.unit.training.test_commands:SignalledRecipe", "--cpu")
    assert stopped.exit_code == 0
    assert "castalia train tiny-circle goes on" in stopped.stderr
    assert [path.name for path in checkpoint.checkpoints(folder / "checkpoints")][-1] == "step-00000009"
    assert signal.getsignal(signal.SIGTERM) == before
    assert "going on after step 9" in run("train", REFERENCE, "--cpu").stderr
    assert (folder / "export" / "model.safetensors").is_file()


def test_no_time_at_all_leaves_a_run_that_goes_on(run: Run, folder: Path) -> None:
    assert "stopped" in run("train", REFERENCE, "--cpu", "--max-minutes", "0").stderr
    assert not (folder / "export").exists()


def test_steps_take_the_place_of_the_recipes_and_fresh_starts_over(run: Run, folder: Path) -> None:
    run("train", REFERENCE, "--cpu", "--steps", "7", "--stage", "train")
    assert read_log(folder)[-1]["step"] == 7
    run("train", REFERENCE, "--cpu", "--steps", "5", "--stage", "train", "--fresh")
    assert read_log(folder)[-1]["step"] == 5


def test_an_unfinished_run_can_be_published_as_it_is(run: Run, folder: Path, tmp_path: Path) -> None:
    run("train", REFERENCE, "--cpu", "--steps", "7", "--stage", "train")
    published = run("train", REFERENCE, "--stage", "publish", "--output", str(tmp_path / "out"))
    assert published.exit_code == 0, published.output
    assert "7 steps of 8 examples" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_the_data_stages_can_be_done_alone(run: Run, tmp_path: Path) -> None:
    assert run("train", REFERENCE, "--stage", "collect").exit_code == 0
    assert not (tmp_path / "home" / "cache" / "training" / "data").exists()
    made = run("train", REFERENCE, "--stage", "preprocess").stdout.split(": ")[1].strip()
    assert (Path(made) / "points.safetensors").is_file()


def test_two_processes_never_train_in_one_folder(run: Run, folder: Path) -> None:
    with alone(folder):
        refused = run("train", REFERENCE, "--cpu")
    assert refused.exit_code == 1
    assert "another process trains in" in refused.stderr


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of something else, to be left as it is. It is the working folder."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear Ada")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [("--output", "."), ("--output", "../theirs"), ("--run", "."), ("--run", ".", "--fresh")],
    ids=" ".join,
)
def test_a_folder_of_something_else_is_left_alone_and_said_so(
    run: Run, theirs: Path, folder: Path, arguments: tuple[str, ...]
) -> None:
    refused = run("train", REFERENCE, "--cpu", *arguments)
    assert refused.exit_code == 1
    assert f"{theirs} has no" in refused.stderr or f"{theirs}/../theirs has no" in refused.stderr
    assert [path.name for path in theirs.iterdir()] == ["letter.txt"]
    assert not folder.exists(), "it is said before hours of training"


def test_workers_that_cannot_share_a_batch_leave_no_run_that_would_hinder_the_next(run: Run, folder: Path) -> None:
    refused = run("train", REFERENCE, "--cpu", "--workers", "3")
    assert refused.exit_code == 1
    assert "a batch of 8 cannot be cut into 3 equal parts" in refused.stderr
    assert not folder.exists()


def test_the_list_says_which_checkpoint_is_damaged(run: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "home" / "training" / "digits-gan" / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").touch()
    refused = run("train", "--list")
    assert refused.exit_code == 1
    assert f"{checkpoint} cannot be read" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "castalia train --list"),
        (("train", "poet"), "there is no recipe named 'poet'; there are: dances-gru, digits-dbm"),
        (("train", REFERENCE, "--publish", "--output", "x"), "--publish and --output name two places"),
        (("train", REFERENCE, "--stage", "publish"), "has no checkpoint yet"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.output


def test_the_list_shows_every_recipe_with_its_budget(run: Run) -> None:
    shown = run("train", "--list").stdout
    for name, budget in (("emoji-diffusion", "8 MiB"), ("digits-gan", "3 MiB"), ("emoji-gan", "3 MiB")):
        (line,) = (line for line in shown.splitlines() if line.split()[:1] == [name])
        assert budget in line
