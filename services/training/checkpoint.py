"""Owns checkpoints: what a run needs to go on exactly where it was. Never trains.

A checkpoint is a folder `step-00001000` with a safetensors file a module, one an averaged module, the optimizers' state
(torch's own format, read back with `weights_only`), and state.json. It is on the disk before it appears, by one rename,
so one that is there is whole. The last two are kept, and the best one of a run that stops early.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from services.training.errors import CheckpointDamaged

KEPT = 2
_DAMAGE = (  # what reading a file that was cut off or overwritten raises, by its kind
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    pickle.UnpicklingError,
    SafetensorError,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: steps done, seconds that they took, and what early stop remembers."""

    step: int = 0
    seconds: float = 0.0
    best: float | None = None  # the lowest `metric` of a validation
    worse: int = 0  # validations since then
    best_step: int | None = None  # where it was, in a run that stops early: what such a run publishes


@dataclass(frozen=True, slots=True)
class Trained:
    """Everything that a checkpoint holds the values of."""

    modules: Mapping[str, nn.Module]
    averages: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]


def save(folder: Path, progress: Progress, trained: Trained) -> None:
    """Write `folder`/step-N; then delete all but the last two and the best."""
    target = folder / _name(progress.step)
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, module in trained.modules.items():
        save_model(module, str(partial / f"{name}.safetensors"))
    for name, module in trained.averages.items():
        save_model(module, str(partial / f"{name}.average.safetensors"))
    torch.save({name: each.state_dict() for name, each in trained.optimizers.items()}, partial / "optimizers.pt")
    (partial / "state.json").write_text(json.dumps(asdict(progress)))
    for path in (*partial.iterdir(), partial):
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _sync(folder)
    for old in checkpoints(folder)[:-KEPT]:
        if progress.best_step is None or old.name != _name(progress.best_step):
            shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*"))


def to_publish(folder: Path) -> Path | None:
    """The checkpoint to publish: the best one of a run that stops early, else the last. Raises CheckpointDamaged."""
    found = checkpoints(folder)
    if not found:
        return None
    best_step = read_progress(found[-1]).best_step
    best = None if best_step is None else folder / _name(best_step)
    return best if best in found else found[-1]


def load(checkpoint: Path, trained: Trained) -> Progress:
    """Put a checkpoint's values into what was built afresh. Raises CheckpointDamaged."""
    with _reading(checkpoint):
        for name, module in trained.modules.items():
            load_model(module, checkpoint / f"{name}.safetensors")
        load_averages(checkpoint, trained.averages)
        states: dict[str, Any] = torch.load(checkpoint / "optimizers.pt", weights_only=True, map_location="cpu")
        for name, optimizer in trained.optimizers.items():
            optimizer.load_state_dict(states[name])
    return read_progress(checkpoint)


def load_averages(checkpoint: Path, averages: Mapping[str, nn.Module]) -> None:
    """The averaged modules alone: what is published. Raises CheckpointDamaged."""
    with _reading(checkpoint):
        for name, module in averages.items():
            load_model(module, checkpoint / f"{name}.average.safetensors")


def read_progress(checkpoint: Path) -> Progress:
    """Raises CheckpointDamaged."""
    with _reading(checkpoint):
        return Progress(**json.loads((checkpoint / "state.json").read_text()))


@contextmanager
def _reading(checkpoint: Path) -> Generator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise CheckpointDamaged(str(checkpoint), str(error) or type(error).__name__) from error


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _sync(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
