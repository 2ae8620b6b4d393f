"""Runs of the tiny recipe, on one thread and with a folder of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from services.training.loop import Ending, Loop, Plan, make_accelerator
from services.training.recipe import Schedule, Training
from services.training.reporting import Silence
from tests.unit.training.tiny import SCHEDULE, Circle, TinyRecipe, read_points

Train = Callable[..., Ending]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    TinyRecipe().preprocess({}, folder)
    return folder


@pytest.fixture
def circle(data: Path) -> Circle:
    return Circle(read_points(data), seed=0)


@pytest.fixture
def train(data: Path) -> Iterator[Train]:
    """Train in a folder: begin, or go on."""

    def train(
        folder: Path,
        training: Training | None = None,
        schedule: Schedule = SCHEDULE,
        shards: int = 1,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Ending:
        training = training or Circle(read_points(data), seed=0)
        plan = Plan(schedule, folder, 0, shards, should_stop)
        return Loop(training, plan, make_accelerator(schedule.precision, cpu=True), Silence()).run()

    yield train
    AcceleratorState._reset_state(reset_partial_state=True)
