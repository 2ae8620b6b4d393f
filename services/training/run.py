"""Owns one run: its folder, what it was begun with, and the way from a job to the loop in each process of it.

A run's folder holds run.json, log.jsonl, samples/, tensorboard/ and checkpoints/.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from filelock import FileLock, Timeout

from services.training import checkpoint
from services.training.collect import data_key
from services.training.errors import NotTrained, RunBusy, RunMismatch
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
    """Write what the run is begun with, or check it against what it was begun with. Raises RunMismatch.

    A run may go on with fewer workers than it has shards, so the shards of one that exists are kept.
    """
    asked = Begun(recipe.name, recipe.version, data_key(recipe), recipe.schedule.batch_size, seed, shards)
    path = folder / RUN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(asked)))
        return asked
    begun = Begun(**json.loads(path.read_text()))
    if begun.shards % shards == 0:
        asked = replace(asked, shards=begun.shards)
    for name, value in asdict(begun).items():
        if value != (other := getattr(asked, name)):
            raise RunMismatch(str(folder), name, begun=value, asked=other)
    return begun


def scheduled(recipe: Recipe, steps: int | None) -> Schedule:
    return recipe.schedule if steps is None else replace(recipe.schedule, steps=steps)


def trained(recipe: Recipe, data: Path, folder: Path) -> tuple[Training, checkpoint.Progress, Begun]:
    """A run's modules with the averaged weights of its last checkpoint in their places. Raises NotTrained."""
    found = checkpoint.checkpoints(folder / "checkpoints")
    if not found:
        raise NotTrained(f"{folder} has no checkpoint yet: run castalia train {recipe.name}")
    begun = Begun(**json.loads((folder / RUN).read_text()))
    training = recipe.build(data, begun.seed)
    modules = {name: training.modules[name].eval() for name in training.averaged}
    checkpoint.load_averages(found[-1], modules)
    return training, checkpoint.read_progress(found[-1]), begun


def run_status(folder: Path) -> checkpoint.Progress | None:
    """How far a run is; None where there is none."""
    found = checkpoint.checkpoints(folder / "checkpoints")
    return checkpoint.read_progress(found[-1]) if found else None
