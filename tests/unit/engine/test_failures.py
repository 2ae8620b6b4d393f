"""A failure hits the row that caused it, and nothing else; a failed device ends everything, and says so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.engine.contract import FinishReason, StepOutput
from services.engine.errors import DeviceFailure, EngineUnhealthy, RowFailed
from tests.contract.fake import Chunk, FakeParams, FakeSampler, FakeState, Fault
from tests.unit.engine.harness import Harness, solo

GOOD = [FakeParams(seed=1, steps=4), FakeParams(seed=2, steps=6)]


@pytest.mark.parametrize("fault", ["raise", "not_finite", "start"])
@pytest.mark.parametrize("fault_at", [0, 2])
def test_a_row_fails_alone_and_its_batch_mates_finish_as_if_alone(fault: Fault, fault_at: int) -> None:
    harness = Harness()
    request = harness.submit(GOOD[0], FakeParams(seed=3, steps=5, fault=fault, fault_at=fault_at), GOOD[1])
    harness.finish()
    final = harness.finals[request, 1]
    assert final.finish_reason is FinishReason.ERROR
    assert isinstance(final.error, RowFailed)
    assert isinstance(final.error.__cause__, RuntimeError) == (fault != "not_finite")
    assert (harness.chunks(request, 0), harness.chunks(request, 2)) == (solo(GOOD[0]), solo(GOOD[1]))
    assert harness.engine.failure is None
    harness.check_nothing_is_left()


def test_a_failed_row_keeps_what_it_streamed_before() -> None:
    harness = Harness()
    request = harness.submit(FakeParams(seed=3, steps=5, fault="raise", fault_at=2))
    harness.finish()
    assert harness.chunks(request) == solo(FakeParams(seed=3, steps=5))[:2]
    assert harness.finals[request, 0].units == 2


def test_a_failed_device_takes_no_more_work_and_leaves_what_had_ended_before() -> None:
    harness = Harness({"m": FakeSampler(max_batch_size=2), "n": FakeSampler()})
    broken = harness.submit(*GOOD, GOOD[0], FakeParams(fault="device", fault_at=1), priority=0)
    other = harness.submit(GOOD[0], model="n")
    harness.finish()
    assert {harness.finals[broken, row].finish_reason for row in range(2)} == {FinishReason.LENGTH}
    for key in ((broken, 2), (broken, 3)):
        assert isinstance(harness.finals[key].error, DeviceFailure)
    assert harness.reason(other) is FinishReason.LENGTH
    assert isinstance(harness.engine.failure, DeviceFailure)
    with pytest.raises(EngineUnhealthy):
        harness.submit(GOOD[0])
    harness.check_nothing_is_left()


def test_a_failed_device_spares_no_waiting_row_and_no_neighbour() -> None:
    harness = Harness({"m": FakeSampler(max_batch_size=1), "n": FakeSampler()})
    broken = harness.submit(FakeParams(fault="device"), FakeParams())
    other = harness.submit(GOOD[0], model="n")
    harness.step()
    assert {key: final.finish_reason for key, final in harness.finals.items()} == dict.fromkeys(
        [(broken, 0), (broken, 1), (other, 0)], FinishReason.ERROR
    )
    assert len(harness.sampler.batches) == 1, "a failed device is not asked again"
    harness.check_nothing_is_left()


class FailsOnce(FakeSampler):
    """Raises `errors` in turn, one a step, before it works."""

    errors: tuple[Exception, ...] = ()

    def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        if self.errors:
            error, *rest = self.errors
            self.errors = tuple(rest)
            raise error
        return super().step(states)


def test_a_step_that_fails_once_costs_nobody_anything() -> None:
    sampler = FailsOnce()
    sampler.errors = (RuntimeError("transient"),)
    harness = Harness(sampler)
    request = harness.submit(*GOOD)
    harness.finish()
    assert [harness.chunks(request, row) for row in range(2)] == [solo(params) for params in GOOD]


def test_out_of_memory_is_the_devices_failure_and_keeps_its_cause() -> None:
    sampler = FailsOnce()
    sampler.errors = (MemoryError(),)
    harness = Harness(sampler)
    request = harness.submit(*GOOD)
    harness.finish()
    error = harness.finals[request, 0].error
    assert isinstance(error, DeviceFailure)
    assert isinstance(error.__cause__, MemoryError)


def test_a_device_that_fails_during_the_retry_leaves_the_rows_already_retried_their_output() -> None:
    sampler = FailsOnce()
    harness = Harness(sampler)
    request = harness.submit(*GOOD, GOOD[0])
    harness.step()
    retries = iter([RuntimeError("the batch"), None, DeviceFailure("now the device"), AssertionError("asked again")])

    def step(states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        error = next(retries)
        if error is not None:
            raise error
        return FakeSampler.step(sampler, states)

    sampler.step = step  # type: ignore[method-assign]
    harness.step()
    assert harness.chunks(request, 0) == solo(GOOD[0])[:2]
    assert all(isinstance(harness.finals[request, row].error, DeviceFailure) for row in range(3))
    harness.check_nothing_is_left()


def test_a_device_that_fails_at_the_start_of_a_row_ends_all() -> None:
    class NoMemory(FakeSampler):
        def start(self, params: FakeParams) -> FakeState:
            if params.seed == 2:
                raise MemoryError
            return super().start(params)

    harness = Harness(NoMemory())
    request = harness.submit(*GOOD)
    harness.step()
    assert {harness.reason(request, row) for row in range(2)} == {FinishReason.ERROR}
    assert harness.sampler.batches == []
    harness.check_nothing_is_left()


@pytest.mark.parametrize("missing", [1, -1])
def test_a_step_with_the_wrong_number_of_outputs_ends_its_rows_instead_of_mixing_them_up(missing: int) -> None:
    class Miscounts(FakeSampler):
        def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
            outputs = super().step(states)
            return outputs[:-1] if missing == 1 else [*outputs, outputs[0]]

    harness = Harness(Miscounts())
    request = harness.submit(*GOOD)
    harness.step()
    assert all(isinstance(harness.finals[request, row].error, RowFailed) for row in range(2))
    assert len(harness.sampler.batches) == 1, "states that moved on are not stepped again"
    harness.check_nothing_is_left()


class FailsToRelease(FakeSampler):
    error: Exception = RuntimeError("cannot release")

    def release(self, state: FakeState) -> None:
        super().release(state)
        raise self.error


def test_a_release_that_raises_is_logged_and_loses_no_output(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness(FailsToRelease())
    request = harness.submit(*GOOD)
    harness.finish()
    assert [harness.chunks(request, row) for row in range(2)] == [solo(params) for params in GOOD]
    assert "release failed" in caplog.text
    assert harness.engine.failure is None
    harness.check_nothing_is_left()


def test_a_device_that_fails_in_release_ends_the_engine_even_after_an_abort() -> None:
    sampler = FailsToRelease()
    sampler.error = DeviceFailure("gone")
    harness = Harness(sampler)
    first, second = harness.submit(GOOD[0]), harness.submit(GOOD[1])
    harness.step()
    harness.engine.abort(first)
    harness.step()
    assert harness.reason(first) is FinishReason.ABORT
    assert isinstance(harness.finals[second, 0].error, DeviceFailure)
    assert len(sampler.batches) == 1
    harness.check_nothing_is_left()
