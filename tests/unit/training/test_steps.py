"""What a step takes and draws, how fast it learns, what it averages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from services.training.averages import MovingAverage, rate_at
from services.training.draws import Shuffle, generator_at, mix
from services.training.run_log import read_log
from tests.unit.training.conftest import Train
from tests.unit.training.tiny import SCHEDULE, scheduled


def test_an_epoch_takes_every_example_once_and_the_next_in_another_order() -> None:
    shuffle = Shuffle(10, seed=0)
    taken = torch.cat([shuffle.indices(step, 4) for step in range(5)])  # batches cross the epochs
    first, second = taken[:10], taken[10:]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert sorted(Shuffle(3, seed=0).indices(0, 9).tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_step_takes_the_same_examples_whatever_was_asked_for_before() -> None:
    walked = Shuffle(10, seed=0)
    for step in range(7):
        walked.indices(step, 4)
    assert torch.equal(walked.indices(7, 4), Shuffle(10, seed=0).indices(7, 4))


def test_steps_shards_and_seeds_draw_apart() -> None:
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    draws = {float(torch.rand((), generator=generator_at(*place))) for place in places}
    assert len(draws) == 4
    assert mix(0, 1) != mix(1, 0)


def test_the_rate_warms_up_linearly_and_falls_by_a_cosine_to_a_tenth() -> None:
    schedule = replace(SCHEDULE, steps=104, warmup=4)
    rates = [rate_at(schedule, step) for step in range(105)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[54] == pytest.approx(0.55)  # half way
    assert rates[104] == pytest.approx(0.1)
    assert rate_at(schedule, 1000) == pytest.approx(0.1)
    assert rate_at(replace(schedule, decay="constant"), 104) == 1.0


def test_the_logged_rate_is_the_phases_own_times_that_of_the_step(tmp_path: Path, train: Train) -> None:
    train(tmp_path)
    rates = [line["learning_rate"] for line in read_log(tmp_path) if line["kind"] == "train"]
    assert rates == [pytest.approx(1e-2 * rate_at(SCHEDULE, step)) for step in range(24)]


def test_an_average_forgets_fresh_weights_first_and_then_moves_by_its_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0)
        average = MovingAverage({"m": module}, decay=0.9)
        module.weight.fill_(1)
        average.update(0)
        assert float(average.modules["m"].weight) == pytest.approx(0.9)  # 1 - 1/10
        module.weight.fill_(0)
        average.update(1000)
        assert float(average.modules["m"].weight) == pytest.approx(0.81)


def test_an_average_copies_buffers_and_takes_no_gradient() -> None:
    module = nn.BatchNorm1d(2)
    average = MovingAverage({"m": module}, decay=0.9)
    module(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    average.update(0)
    held = average.modules["m"]
    assert torch.equal(held.running_mean, module.running_mean)
    assert not held.training
    assert not any(parameter.requires_grad for parameter in held.parameters())


def test_shards_draw_apart_and_share_the_batch(tmp_path: Path, train: Train) -> None:
    train(tmp_path / "one")
    train(tmp_path / "two", shards=2)
    one, two = (read_log(tmp_path / name)[0] for name in ("one", "two"))
    assert one["denoise/draw"] != two["denoise/draw"]
    assert two["denoise/loss"] == pytest.approx(one["denoise/loss"], rel=0.5)


def test_a_batch_that_shards_cannot_share_is_refused(tmp_path: Path, train: Train) -> None:
    with pytest.raises(ValueError, match="a batch of 9 cannot be cut into 2 shards"):
        train(tmp_path, schedule=scheduled(batch_size=9), shards=2)
