"""The training loop: what it computes, when it stops, and that a run which goes on is the run that was not stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from services.training import checkpoint
from services.training.errors import CheckpointDamaged, Diverged
from services.training.loop import Ending
from services.training.run_log import read_log
from tests.unit.training.conftest import Train
from tests.unit.training.tiny import KILLED, Circle, Worsening, read_points, scheduled

ROOT = Path(__file__).parents[3]


def test_a_killed_run_goes_on_at_the_curve_of_one_that_was_not_killed(tmp_path: Path, data: Path, train: Train) -> None:
    killed = tmp_path / "killed"
    code = (
        "from services.training.run import Job, train_job\n"
        "from services.training.reporting import Silence\n"
        f"train_job(Job({KILLED!r}, {str(data)!r}, {str(killed)!r}, threads=1, cpu=True), Silence())"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == -9, child.stderr
    assert [path.name for path in checkpoint.checkpoints(killed / "checkpoints")] == ["step-00000006", "step-00000012"]
    assert read_log(killed)[-1]["step"] == 15  # three steps after the checkpoint are to be made again
    assert train(killed) is Ending.FINISHED
    train(tmp_path / "whole")
    assert read_log(killed) == read_log(tmp_path / "whole")


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not_stopped(tmp_path: Path, train: Train) -> None:
    steps = iter(range(100))
    assert train(tmp_path / "stopped", should_stop=lambda: next(steps) == 9) is Ending.STOPPED
    assert len(read_log(tmp_path / "stopped")) == 9 + 1
    train(tmp_path / "stopped")
    train(tmp_path / "whole")
    stopped, whole = (checkpoint.checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("stopped", "whole"))
    for file in ("denoiser.safetensors", "denoiser.average.safetensors", "critic.safetensors"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes()


def test_the_last_two_checkpoints_are_kept_and_a_damaged_one_is_named(tmp_path: Path, train: Train) -> None:
    train(tmp_path)
    older, last = checkpoint.checkpoints(tmp_path / "checkpoints")
    assert (older.name, last.name) == ("step-00000018", "step-00000024")
    (last / "critic.safetensors").write_bytes(b"\0" * 8)
    with pytest.raises(CheckpointDamaged, match="step-00000024"):
        train(tmp_path)


@pytest.mark.parametrize("file", ["critic.safetensors", "denoiser.average.safetensors", "optimizers.pt", "state.json"])
def test_a_file_that_was_cut_off_names_its_checkpoint(tmp_path: Path, train: Train, file: str) -> None:
    train(tmp_path, schedule=scheduled(steps=1))
    (last,) = checkpoint.checkpoints(tmp_path / "checkpoints")
    content = (last / file).read_bytes()
    for damaged in (b"", content[:1], content[: len(content) // 2], b"[]", b"\x80\x02."):
        (last / file).write_bytes(damaged)
        with pytest.raises(CheckpointDamaged, match=f"{last.name} cannot be read: ."):
            train(tmp_path)


def test_a_checkpoint_is_on_the_disk_before_it_appears(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()

    def sync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        assert {each.stat().st_ino for each in (path, *path.iterdir())} <= synced
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    train(tmp_path, schedule=scheduled(steps=1))
    assert (tmp_path / "checkpoints").stat().st_ino in synced


def test_training_lowers_the_metric_of_the_averaged_weights(tmp_path: Path, train: Train) -> None:
    train(tmp_path, schedule=scheduled(steps=60, validate_every=12))
    metrics = [line["metric"] for line in read_log(tmp_path) if line["kind"] == "validation"]
    assert len(metrics) == 5
    assert metrics[-1] < metrics[0] / 2


def test_a_phase_leaves_the_other_modules_alone(tmp_path: Path, circle: Circle, train: Train) -> None:
    circle.phases = circle.phases[1:]
    before = [parameter.clone() for parameter in circle.modules["denoiser"].parameters()]
    critic = circle.modules["critic"].weight.clone()
    train(tmp_path, circle)
    after = list(circle.modules["denoiser"].parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not torch.equal(critic, circle.modules["critic"].weight)


def test_what_a_recipe_froze_stays_frozen(tmp_path: Path, circle: Circle, train: Train) -> None:
    frozen = circle.modules["critic"].bias.requires_grad_(False)
    before = frozen.clone()
    train(tmp_path, circle)
    assert torch.equal(frozen, before)
    assert not frozen.requires_grad


def test_gradients_are_clipped_to_the_norm_of_the_schedule(tmp_path: Path, data: Path, train: Train) -> None:
    norms: list[float] = []

    class Watched(Circle):
        def batch(self, indices: Tensor, generator: torch.Generator) -> Any:
            gradients = [p.grad.flatten() for p in self.modules["critic"].parameters() if p.grad is not None]
            norms.extend([float(torch.cat(gradients).norm())] if gradients else [])
            return super().batch(indices, generator)

    train(tmp_path, Watched(read_points(data), 0), schedule=scheduled(clip=0.01))
    logged = [line["judge/gradient_norm"] for line in read_log(tmp_path) if line["kind"] == "train"]
    assert min(logged) > 0.01  # before clipping
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_run_with_step_and_phase(tmp_path: Path, data: Path, train: Train) -> None:
    class Broken(Circle):
        def loss(
            self, phase: str, modules: Mapping[str, nn.Module], batch: Any, generator: torch.Generator
        ) -> tuple[Tensor, Mapping[str, float]]:
            loss, figures = super().loss(phase, modules, batch, generator)
            return (loss * float("nan") if phase == "judge" else loss), figures

    with pytest.raises(Diverged, match=r"'judge' was nan at step 1"):
        train(tmp_path, Broken(read_points(data), 0))


def test_a_metric_that_stays_worse_stops_the_run_and_keeps_it_stopped(tmp_path: Path, data: Path, train: Train) -> None:
    schedule = scheduled(steps=60, patience=2)
    assert train(tmp_path, Worsening(read_points(data), 0), schedule=schedule) is Ending.EARLY_STOP
    assert read_log(tmp_path)[-1]["step"] == 24  # the fourth validation: two worse ones after the second
    assert train(tmp_path, Worsening(read_points(data), 0), schedule=schedule) is Ending.EARLY_STOP
    assert read_log(tmp_path)[-1]["step"] == 24


def test_bfloat16_computes_less_exactly_and_keeps_float32_weights(tmp_path: Path, data: Path, train: Train) -> None:
    curves: list[list[float]] = []
    for precision in ("no", "bf16"):
        circle = Circle(read_points(data), 0)
        train(tmp_path / precision, circle, schedule=scheduled(precision=precision))
        AcceleratorState._reset_state(reset_partial_state=True)
        assert {parameter.dtype for parameter in circle.modules["denoiser"].parameters()} == {torch.float32}
        curves.append([line["loss"] for line in read_log(tmp_path / precision) if line["kind"] == "train"])
    assert curves[0] != curves[1]
    assert curves[0] == pytest.approx(curves[1], rel=0.05)


def test_the_log_goes_to_tensorboard_too_and_samples_are_drawn(tmp_path: Path, train: Train) -> None:
    train(tmp_path)
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == [
        "step-00000012.png",
        "step-00000024.png",
    ]
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"train/denoise/loss" in content
    assert b"validation/metric" in content
