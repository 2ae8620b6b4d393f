"""Owns checkpoints: what a run needs to go on exactly where it was. Never trains.

A checkpoint is a folder `step-00001000` with a safetensors file a module, one an averaged module, the optimizers' state
(torch's own format, read back with `weights_only`), and state.json. It appears by one rename, so one that is there is
whole. The last two are kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from services.training.errors import CheckpointDamaged

KEPT = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: steps done, seconds that they took, and what early stop remembers."""

    step: int = 0
    seconds: float = 0.0
    best: float | None = None  # the lowest `metric` of a validation
    worse: int = 0  # validations since then


@dataclass(frozen=True, slots=True)
class Trained:
    """Everything that a checkpoint holds the values of."""

    modules: Mapping[str, nn.Module]
    averages: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]


def save(folder: Path, progress: Progress, trained: Trained) -> None:
    """Write `folder`/step-N; then delete all but the last two."""
    target = folder / f"step-{progress.step:08d}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, module in trained.modules.items():
        save_model(module, str(partial / f"{name}.safetensors"))
    for name, module in trained.averages.items():
        save_model(module, str(partial / f"{name}.average.safetensors"))
    torch.save({name: each.state_dict() for name, each in trained.optimizers.items()}, partial / "optimizers.pt")
    (partial / "state.json").write_text(json.dumps(asdict(progress)))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*"))


def load(checkpoint: Path, trained: Trained) -> Progress:
    """Put a checkpoint's values into what was built afresh. Raises CheckpointDamaged."""
    try:
        for name, module in trained.modules.items():
            load_model(module, checkpoint / f"{name}.safetensors")
        load_averages(checkpoint, trained.averages)
        states: dict[str, Any] = torch.load(checkpoint / "optimizers.pt", weights_only=True, map_location="cpu")
        for name, optimizer in trained.optimizers.items():
            optimizer.load_state_dict(states[name])
        return read_progress(checkpoint)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointDamaged(str(checkpoint), str(error)) from error


def load_averages(checkpoint: Path, averages: Mapping[str, nn.Module]) -> None:
    """The averaged modules alone: what is published."""
    for name, module in averages.items():
        load_model(module, checkpoint / f"{name}.average.safetensors")


def read_progress(checkpoint: Path) -> Progress:
    return Progress(**json.loads((checkpoint / "state.json").read_text()))
