"""Owns a run among many processes or machines: the same loop, under Ray Train's TorchTrainer.

Workers share the run's folder and the data by path: on several machines both are on a file system that all of them see.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from services.training.errors import MissingExtra, TrainingError
from services.training.loop import Ending
from services.training.reporting import Lines, Reporter, Silence
from services.training.run import Job, train_job

_ENDING = "ending.txt"


def train_on_workers(job: Job, workers: int, reporter: Reporter) -> Ending:
    """Begin or go on with the run in `workers` processes, a CPU or a GPU each; returns when it has ended.

    Uses the Ray cluster of RAY_ADDRESS, or starts one of its own for as long as this call lasts. Raises MissingExtra,
    and TrainingError with the first worker's failure.
    """
    try:
        import ray  # noqa: PLC0415 - takes a second, and most runs have one worker
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError  # noqa: PLC0415
        from ray.train.torch import TorchTrainer  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("ray[train]") from error
    own = not ray.is_initialized() and "RAY_ADDRESS" not in os.environ
    if own:
        ray.init(address="local", include_dashboard=False, num_cpus=workers + 1)  # one for the coordinator
    reporter.note(f"training on {workers} workers of Ray Train; the first one's lines follow")
    trainer = TorchTrainer(
        _work,
        train_loop_config=asdict(job),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=torch.cuda.is_available() and not job.cpu),
        run_config=RunConfig(name="ray", storage_path=job.folder),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise TrainingError(f"a worker failed: {error}") from error
    finally:
        if own:
            ray.shutdown()
    return Ending((Path(job.folder) / _ENDING).read_text())


def _work(config: dict[str, Any]) -> None:
    """What each process runs. Ray has joined them by torch.distributed before, and `accelerate` finds that."""
    from ray import train  # noqa: PLC0415 - of the `train` extra

    first = train.get_context().get_world_rank() == 0
    job = Job(**config)
    ending = train_job(job, Lines(_print) if first else Silence())
    if first:
        (Path(job.folder) / _ENDING).write_text(ending.value)


def _print(text: str) -> None:
    """Ray shows a worker's standard output at the driver's; Ray Train also logs what is printed by `print`."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
