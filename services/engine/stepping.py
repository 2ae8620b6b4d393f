"""Owns one step of a batch and its narrow failure: the culprit alone. Never sees a queue or a clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.engine.contract import Sampler, StepOutput
from services.engine.errors import DeviceFailure, RowFailed

Outcome = StepOutput[Any] | RowFailed | DeviceFailure


def as_device_failure(error: Exception) -> DeviceFailure | None:
    """The error as a failure of the device, or None if it is about a row. Out of memory counts as the device's."""
    if isinstance(error, DeviceFailure):
        return error
    if isinstance(error, MemoryError):
        failure = DeviceFailure("out of memory")
        failure.__cause__ = error
        return failure
    return None


def row_failure(message: str, cause: Exception) -> RowFailed:
    """A RowFailed that keeps its cause without being raised."""
    failure = RowFailed(message)
    failure.__cause__ = cause
    return failure


def step_batch(sampler: Sampler[Any, Any, Any], states: Sequence[Any]) -> list[Outcome]:
    """Step the batch once; return each state's outcome, in order. Raises no Exception.

    A step that raises left every state as it was (`Sampler.step`), so the rows are then stepped one by one and fail
    alone. A device failure is never retried: it is the outcome of every row that has no other.
    """
    try:
        return _checked_step(sampler, states)
    except Exception as error:
        failure = as_device_failure(error)
        if failure is not None:
            return [failure] * len(states)
        if len(states) == 1:
            return [row_failure(f"the step failed: {type(error).__name__}", error)]
    outcomes: list[Outcome] = []
    for state in states:
        failed = bool(outcomes) and isinstance(outcomes[-1], DeviceFailure)
        outcomes.append(outcomes[-1] if failed else step_batch(sampler, [state])[0])
    return outcomes


def _checked_step(sampler: Sampler[Any, Any, Any], states: Sequence[Any]) -> list[Outcome]:
    outputs = list(sampler.step(states))
    if len(outputs) == len(states):
        return list(outputs)
    # The states have moved on, and whose output is missing is unknown: no retry can put that right.
    return [RowFailed(f"the sampler returned {len(outputs)} outputs for {len(states)} rows") for _ in states]
