"""Drives a sampler by hand: through an engine, through an engine with injected faults, or with no engine at all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.engine.contract import Params, Preview, Sampler, StepOutput
from services.engine.engine import Engine
from services.engine.rows import Output

MODEL = "model"


class FaultySampler:
    """A sampler whose step raises whenever `faulty` says so of the rows; it passes everything else on."""

    def __init__(self, inner: Sampler[Any, Any, Any], faulty: Callable[[Sequence[Params]], bool]) -> None:
        self.inner, self.faulty = inner, faulty
        self.faults = 0
        self._rows: list[tuple[Any, Params]] = []

    @property
    def max_batch_size(self) -> int:
        return self.inner.max_batch_size

    def batch_key(self, params: Params) -> Hashable:
        return self.inner.batch_key(params)

    def fits(self, params: Params, states: Sequence[Any]) -> bool:
        return self.inner.fits(params, states)

    def start(self, params: Params) -> Any:
        state = self.inner.start(params)
        self._rows.append((state, params))
        return state

    def step(self, states: Sequence[Any]) -> Sequence[StepOutput[Any]]:
        if self.faulty([next(params for known, params in self._rows if known is state) for state in states]):
            self.faults += 1
            raise RuntimeError("injected fault")
        return self.inner.step(states)

    def release(self, state: Any) -> None:
        self._rows = [(known, params) for known, params in self._rows if known is not state]
        self.inner.release(state)


@dataclass
class Run:
    """What one engine delivered, by request; every request here is a single row."""

    outputs: dict[int, list[Output]]

    def final(self, request: int) -> Output:
        """The one final output, which is also the last."""
        finals = [output for output in self.outputs[request] if output.finish_reason is not None]
        assert len(finals) == 1, f"row {request} has {len(finals)} final outputs"
        assert self.outputs[request][-1] is finals[0], f"row {request} delivers after its final output"
        return finals[0]

    def chunks(self, request: int) -> list[Any]:
        given = [output.chunk for output in self.outputs[request] if output.chunk is not None]
        return [chunk for chunk in given if not isinstance(chunk, Preview)]


class Driver:
    """An engine around one sampler, stepped by hand."""

    def __init__(self, sampler: Sampler[Any, Any, Any]) -> None:
        self.engine = Engine({MODEL: sampler}, clock=lambda: 0.0, max_waiting_cost=float("inf"))
        self.run = Run({})

    def submit(self, params: Params) -> int:
        request = self.engine.submit(MODEL, [params])
        self.run.outputs[request] = []
        return request

    def step(self) -> None:
        for output in self.engine.step():
            self.run.outputs[output.request].append(output)

    def finish(self, limit: int = 100_000) -> Run:
        for _ in range(limit):
            if not self.engine.has_work:
                return self.run
            self.step()
        raise AssertionError(f"rows still run after {limit} steps")


def run_rows(sampler: Sampler[Any, Any, Any], rows: Sequence[Params]) -> Run:
    """Run all rows together from the first step on; request i + 1 is row i."""
    driver = Driver(sampler)
    for params in rows:
        driver.submit(params)
    return driver.finish()


def bare_loop(sampler: Sampler[Any, Any, Any], params: Params) -> Iterator[Any]:
    """The row's chunks without an engine: start, step to the end, release."""
    state = sampler.start(params)
    reason = None
    while reason is None:
        (output,) = sampler.step([state])
        reason = output.finish_reason
        if output.chunk is not None and not isinstance(output.chunk, Preview):
            yield output.chunk
    sampler.release(state)
