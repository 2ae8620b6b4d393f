"""A run that several processes share is the run of one process with as many shards."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import asdict, replace
from os import environ
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from services.training.loop import Ending
from services.training.reporting import Silence
from services.training.run import Job, train_job
from services.training.run_log import read_log
from services.training.workers import Workers
from tests.unit.training.tiny import REFERENCE

ROOT = Path(__file__).parents[3]
MEMBER = "from services.training.run import *\nfrom services.training.reporting import Silence\n"


@pytest.fixture
def job(tmp_path: Path, data: Path) -> Job:
    return Job(REFERENCE, str(data), str(tmp_path / "shared"), shards=2, threads=1, cpu=True)


def assert_equal_curves(job: Job, tmp_path: Path) -> None:
    """Beside one process, which does both shards one after the other."""
    alone = replace(job, folder=str(tmp_path / "alone"))
    assert train_job(alone, Silence()) is Ending.FINISHED
    shared, whole = read_log(Path(job.folder)), read_log(Path(alone.folder))
    assert len(shared) == 24 + 4
    for one, other in zip(shared, whole, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-4)


def numbers(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if name != "kind"}


@pytest.mark.slow
def test_two_processes_share_a_run_and_its_curve_is_that_of_one(job: Job, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = MEMBER + f"print(train_job(Job(**{asdict(job)!r}), Silence()))"
    members = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(2)
    ]
    try:
        outputs = [member.communicate(timeout=120)[0] for member in members]
    finally:
        for member in members:
            member.kill()
    assert outputs == ["finished\n", "finished\n"]
    assert_equal_curves(job, tmp_path)


def test_figures_are_averaged_on_the_device_that_the_workers_talk_from() -> None:
    """NCCL takes no tensor of the CPU."""

    workers = Workers(cast(Accelerator, Elsewhere()), shards=2)
    assert workers.means([0.5, 2.0]) == [1.0, 1.0]
    assert workers.any(False)


class Elsewhere:
    """One of two processes, on a device that is not the CPU."""

    num_processes, process_index, device = 2, 0, torch.device("meta")

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        assert (tensor.device.type, reduction) == ("meta", "mean")
        return torch.ones(tensor.shape)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data, as it is imported
def test_two_workers_of_ray_train_share_a_run_and_its_curve_is_that_of_one(job: Job, tmp_path: Path) -> None:
    from services.training.distributed import train_on_workers

    lines: list[str] = []

    class Notes(Silence):
        def note(self, text: str) -> None:
            lines.append(text)

    assert train_on_workers(job, 2, Notes()) is Ending.FINISHED
    assert lines == ["training on 2 workers of Ray Train; the first one's lines follow"]
    assert_equal_curves(job, tmp_path)
