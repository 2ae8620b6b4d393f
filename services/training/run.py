"""Owns one run: its folder, what it was begun with, and the way from a job to the loop in each process of it.

A run's folder holds run.json, log.jsonl, samples/, tensorboard/ and checkpoints/.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from filelock import FileLock, Timeout

from services.training import checkpoint
from services.training.collect import data_key
from services.training.errors import NotOurs, NotTrained, RunBusy, RunMismatch, TrainingError, UnevenShards
from services.training.loop import Ending, Loop, Plan, make_accelerator
from services.training.recipe import Recipe, Schedule, Training
from services.training.recipes import load_recipe
from services.training.reporting import Reporter

RUN = "run.json"


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to take part in a run: plain values, that cross to other machines."""

    recipe: str  # module:attribute
    data: str
    folder: str
    seed: int = 0
    shards: int = 1
    steps: int | None = None  # in place of the schedule's, which the learning rate then follows
    max_seconds: float | None = None  # of this invocation
    threads: int | None = None
    cpu: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run was begun with: going on with anything else would be another run."""

    recipe: str
    version: int
    data: str
    batch_size: int
    seed: int
    shards: int


def train_job(job: Job, reporter: Reporter, should_stop: Callable[[], bool] = lambda: False) -> Ending:
    """Begin the run, or go on with it. Raises RunMismatch, CheckpointDamaged, Diverged, MissingExtra."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    recipe, folder = load_recipe(job.recipe), Path(job.folder)
    schedule = scheduled(recipe, job.steps)
    deadline = None if job.max_seconds is None else time.monotonic() + job.max_seconds
    plan = Plan(
        schedule,
        folder,
        job.seed,
        job.shards,
        lambda: should_stop() or (deadline is not None and time.monotonic() >= deadline),
    )
    try:
        accelerator = make_accelerator(schedule.precision, cpu=job.cpu)
        return Loop(recipe.build(Path(job.data), job.seed), plan, accelerator, reporter).run()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage] - else a second run here would get this one's precision


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Keep every other process out of the run meanwhile. Raises RunBusy if one is in it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunBusy(str(folder)) from None
    try:
        yield
    finally:
        lock.release()


def begin(folder: Path, recipe: Recipe, seed: int, shards: int) -> Begun:
    """Write what the run is begun with, or check it against what it was begun with.

    A run may go on with fewer workers than it has shards, so the shards of one that exists are kept. Raises
    TrainingError: RunMismatch; before anything is written, UnevenShards, or NotOurs for a folder of something else.
    """
    asked = Begun(recipe.name, recipe.version, data_key(recipe), recipe.schedule.batch_size, seed, shards)
    path = folder / RUN
    if not path.exists():
        if asked.batch_size % shards:
            raise UnevenShards(asked.batch_size, shards)
        check_replaceable(folder, (RUN,))
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(asked)))
        return asked
    begun = _begun(folder)
    if begun.shards % shards == 0:
        asked = replace(asked, shards=begun.shards)
    for name, value in asdict(begun).items():
        if value != (other := getattr(asked, name)):
            raise RunMismatch(str(folder), name, begun=value, asked=other)
    return begun


def discard(folder: Path) -> None:
    """Delete a run's folder, if there is one. Raises NotOurs for a folder of something else."""
    check_replaceable(folder, (RUN,))
    shutil.rmtree(folder, ignore_errors=True)


def check_replaceable(folder: Path, signs: Sequence[str]) -> None:
    """Raises NotOurs unless the folder is absent, empty, or holds files of all these names: those that we write."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    for sign in signs:
        if not (folder / sign).is_file():
            raise NotOurs(str(folder), lacks=sign)


def scheduled(recipe: Recipe, steps: int | None) -> Schedule:
    return recipe.schedule if steps is None else replace(recipe.schedule, steps=steps)


def trained(recipe: Recipe, data: Path, folder: Path) -> tuple[Training, checkpoint.Progress, Begun]:
    """A run's modules with the averaged weights in their places, of its best checkpoint where it stops early.

    Raises TrainingError: NotTrained, CheckpointDamaged.
    """
    found = checkpoint.to_publish(folder / "checkpoints")
    if found is None:
        raise NotTrained(f"{folder} has no checkpoint yet: run castalia train {recipe.name}")
    begun = _begun(folder)
    training = recipe.build(data, begun.seed)
    modules = {name: training.modules[name].eval() for name in training.averaged}
    checkpoint.load_averages(found, modules)
    return training, checkpoint.read_progress(found), begun


def run_status(folder: Path) -> checkpoint.Progress | None:
    """How far a run is; None where there is none. Raises CheckpointDamaged."""
    found = checkpoint.checkpoints(folder / "checkpoints")
    return checkpoint.read_progress(found[-1]) if found else None


def _begun(folder: Path) -> Begun:
    try:
        return Begun(**json.loads((folder / RUN).read_text()))
    except (OSError, ValueError, TypeError) as error:
        why = f"{folder / RUN} cannot be read: {error}"
        raise TrainingError(f"{why}; start over with --fresh, or name another folder with --run") from error
