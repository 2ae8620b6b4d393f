"""Owns the one training loop: phases, gradients, averages, validation, early stop, checkpoints. Knows no model.

What a step computes is a function of the run's seed and the step's number, so that a run that was killed and goes on
from its checkpoint ends at the same curve.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from services.training import checkpoint
from services.training.averages import MovingAverage, rate_at
from services.training.checkpoint import Progress, Trained
from services.training.draws import Shuffle, generator_at, seed_dropout
from services.training.errors import Diverged
from services.training.recipe import Phase, Schedule, Training
from services.training.reporting import Reporter, Tick
from services.training.run_log import RunLog
from services.training.workers import Workers

METRIC = "metric"  # the figure of `validate` that is to fall


class Ending(StrEnum):
    """Why the loop came back."""

    FINISHED = "finished"
    EARLY_STOP = "early stop"
    STOPPED = "stopped"  # by time or by a signal: the run can go on


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop is to do: until when, in which folder, from which seed, in how many shards."""

    schedule: Schedule
    folder: Path
    seed: int
    shards: int = 1
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Draw:
    """One shard's part of a step: its examples, and what it draws from."""

    shard: int
    batch: Any
    generator: torch.Generator


class Loop:
    """One run of a `Training`. Every worker makes one; the first alone validates and writes."""

    def __init__(
        self,
        training: Training,
        plan: Plan,
        accelerator: Accelerator,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._training, self._plan, self._schedule = training, plan, plan.schedule
        self._accelerator, self._reporter, self._clock = accelerator, reporter, clock
        self._workers = Workers(accelerator, plan.shards)
        self._modules = {name: module.to(accelerator.device).train() for name, module in training.modules.items()}
        # What the recipe froze stays frozen.
        self._free = {
            name: [parameter for parameter in module.parameters() if parameter.requires_grad]
            for name, module in self._modules.items()
        }
        self._average = MovingAverage({name: self._modules[name] for name in training.averaged}, plan.schedule.ema)
        self._optimizers = {phase.name: self._optimizer(phase) for phase in training.phases}
        self._shuffle = Shuffle(training.examples, plan.seed)
        self._trained = Trained(self._modules, self._average.modules, self._optimizers)
        self._checkpoints = plan.folder / "checkpoints"
        self._progress = self._before = self._resume()
        self._started = clock()
        self._metric: float | None = None

    def run(self) -> Ending:
        """Train to the end of the schedule, or until it is stopped; leaves a checkpoint in every case."""
        log = RunLog(self._plan.folder, step=self._progress.step) if self._workers.first else None
        self._started = self._clock()
        try:
            return self._run(log)
        finally:
            if log is not None:
                log.close()

    def _run(self, log: RunLog | None) -> Ending:
        schedule = self._schedule
        if self._out_of_patience():
            return Ending.EARLY_STOP
        while self._progress.step < schedule.steps:
            if self._workers.any(self._plan.should_stop()):
                self._save()
                return Ending.STOPPED
            step = self._progress.step
            figures = self._step(step)
            self._progress = replace(self._progress, step=step + 1, seconds=self._seconds())
            if log is not None:
                log.figures(step + 1, "train", figures)
            self._tick(figures["loss"])
            last = step + 1 == schedule.steps
            if log is not None and (last or (step + 1) % schedule.sample_every == 0):
                self._sample(log)
            if last or (step + 1) % schedule.validate_every == 0:
                self._validate(log)
                self._save()
                if self._out_of_patience():
                    return Ending.EARLY_STOP
        return Ending.FINISHED

    def _step(self, step: int) -> dict[str, float]:
        """Every phase once on one batch. Returns the figures for the log, means over the shards."""
        training, rate = self._training, rate_at(self._schedule, step)
        indices = self._shuffle.indices(step, self._schedule.batch_size)
        draws: list[Draw] = []
        for shard in self._workers.shards:
            generator = generator_at(self._plan.seed, step, shard)
            batch = training.batch(self._workers.share(indices, shard), generator)
            draws.append(Draw(shard, send_to_device(batch, self._accelerator.device), generator))
        figures: dict[str, float] = {}
        for number, phase in enumerate(training.phases):
            figures |= self._phase(phase, draws, (step, number), rate)
        self._workers.average(buffer for buffer in self._buffers() if buffer.is_floating_point())
        self._average.update(step)
        figures["loss"] = math.fsum(figures[f"{phase.name}/loss"] for phase in training.phases)
        figures["learning_rate"] = rate * training.phases[0].learning_rate
        return figures

    def _phase(self, phase: Phase, draws: Sequence[Draw], place: tuple[int, int], rate: float) -> dict[str, float]:
        optimizer = self._optimizers[phase.name]
        for name, parameters in self._free.items():
            for parameter in parameters:
                parameter.requires_grad_(name in phase.modules)
        optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for draw in draws:
            seed_dropout(self._accelerator.device, self._plan.seed, *place, draw.shard)
            with self._accelerator.autocast():
                loss, figures = self._training.loss(phase.name, self._modules, draw.batch, draw.generator)
            (loss / len(draws)).backward()
            for name, value in {"loss": float(loss.detach()), **figures}.items():
                sums[name] = sums.get(name, 0.0) + value / len(draws)
        means = dict(zip(sums, self._workers.means(list(sums.values())), strict=True))
        if not math.isfinite(means["loss"]):
            raise Diverged(place[0] + 1, phase.name, means["loss"])
        parameters = self._parameters(phase)
        self._workers.average(parameter.grad for parameter in parameters if parameter.grad is not None)
        norm = self._accelerator.clip_grad_norm_(parameters, self._schedule.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate * phase.learning_rate
        optimizer.step()
        means["gradient_norm"] = float(norm) if norm is not None else 0.0
        return {f"{phase.name}/{name}": value for name, value in means.items()}

    def _validate(self, log: RunLog | None) -> None:
        if log is None:
            return
        with torch.no_grad():
            figures = self._training.validate(self._average.modules)
        progress, metric = self._progress, figures[METRIC]
        log.figures(progress.step, "validation", figures)
        best = metric < (math.inf if progress.best is None else progress.best)  # never one that is no number
        self._metric = metric
        if best:
            best_step = progress.step if self._schedule.patience else None
            self._progress = replace(progress, best=metric, worse=0, best_step=best_step)
        else:
            self._progress = replace(progress, worse=progress.worse + 1)
        self._reporter.validated(progress.step, figures, best=best)

    def _out_of_patience(self) -> bool:
        return self._workers.any(0 < self._schedule.patience <= self._progress.worse)

    def _sample(self, log: RunLog) -> None:
        with torch.no_grad():
            sheet = self._training.sample(self._average.modules)
        path = log.sheet(self._progress.step, sheet)
        self._reporter.note(f"step {self._progress.step}: samples in {path}")

    def _save(self) -> None:
        if self._workers.first and self._progress.step:
            checkpoint.save(self._checkpoints, self._progress, self._trained)

    def _resume(self) -> Progress:
        found = checkpoint.checkpoints(self._checkpoints)
        if not found:
            return Progress()
        progress = checkpoint.load(found[-1], self._trained)
        self._reporter.note(f"going on after step {progress.step}")
        return progress

    def _tick(self, loss: float) -> None:
        done = self._progress.step - self._before.step
        seconds = max(self._progress.seconds - self._before.seconds, 1e-9)
        left = (self._schedule.steps - self._progress.step) * seconds / done
        rate = done * self._schedule.batch_size / seconds
        self._reporter.tick(Tick(self._progress.step, self._schedule.steps, loss, self._metric, rate, left))

    def _seconds(self) -> float:
        return self._before.seconds + self._clock() - self._started

    def _buffers(self) -> list[Tensor]:
        return [buffer for module in self._modules.values() for buffer in module.buffers()]

    def _parameters(self, phase: Phase) -> list[nn.Parameter]:
        return [parameter for name in phase.modules for parameter in self._free[name]]

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self._parameters(phase),
            lr=phase.learning_rate,
            betas=phase.betas,
            weight_decay=phase.weight_decay,
            fused=True,
        )


def make_accelerator(precision: str, *, cpu: bool) -> Accelerator:
    """This process's accelerator; `cpu` keeps it off a GPU that is there."""
    return Accelerator(mixed_precision=precision, cpu=cpu)
