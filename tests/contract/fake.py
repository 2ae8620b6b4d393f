"""A sampler without a model, in plain Python: the engine's tests drive it, and the contract suite is tested on it.

A row counts down its steps; each step draws an integer from the row's own generator and folds it into the row's sum,
so a draw that is repeated, skipped or shared between rows changes everything that follows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from services.engine.contract import FinishReason, Preview, StepOutput
from services.engine.errors import DeviceFailure

Fault = Literal["raise", "not_finite", "start", "device"]
Chunk = int | Preview[int]


@dataclass(frozen=True, slots=True)
class FakeParams:
    seed: int = 0
    steps: int = 3  # after the silent ones
    silent: int = 0  # steps without output, like reading a prompt
    previews: bool = False  # every step but the last gives a preview of the final sum instead of a piece
    key: Hashable = 0
    size: int = 1  # of the budget
    cost: float = 1.0
    task: str = "generate"
    fault: Fault | None = None
    fault_at: int = 0  # the step, from 0, at which `fault` happens

    @property
    def predicted_steps(self) -> float:
        return float(self.silent + self.steps)


@dataclass(slots=True, eq=False)
class FakeState:
    params: FakeParams
    rng: Random
    done: int = 0
    total: int = 0
    finished: bool = False


@dataclass(eq=False)
class FakeSampler:
    """Keeps what it was asked to do, and refuses what breaks the contract between engine and sampler."""

    max_batch_size: int = 4
    budget: int = 1000
    live: list[FakeState] = field(default_factory=list)
    batches: list[list[FakeParams]] = field(default_factory=list)  # every call of `step`
    started: int = 0
    released: int = 0
    breaks_batches: bool = False  # a step of several rows raises once all but the last are computed

    def batch_key(self, params: FakeParams) -> Hashable:
        return params.key

    def fits(self, params: FakeParams, states: Sequence[FakeState]) -> bool:
        assert list(map(id, sorted(states, key=id))) == list(map(id, sorted(self.live, key=id)))
        return sum(state.params.size for state in states) + params.size <= self.budget

    def start(self, params: FakeParams) -> FakeState:
        if params.fault == "start":
            raise RuntimeError("cannot start")
        state = FakeState(params, Random(params.seed))
        self.started += 1
        self.live.append(state)
        assert sum(each.params.size for each in self.live) <= self.budget, "over the memory budget"
        return state

    def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        self.batches.append([state.params for state in states])
        assert 0 < len(states) <= self.max_batch_size, "over the batch size"
        assert len({state.params.key for state in states}) == 1, "rows that cannot share a step do"
        assert all(state in self.live and not state.finished for state in states), "a row that left is stepped"
        computed = [self._compute(state) for state in states[:-1]]
        if computed and self.breaks_batches:
            raise RuntimeError("the batch is half computed")
        computed.append(self._compute(states[-1]))
        return [self._commit(state, *each) for state, each in zip(states, computed, strict=True)]

    def release(self, state: FakeState) -> None:
        self.live.remove(state)  # ValueError on the second time
        self.released += 1

    def _compute(self, state: FakeState) -> tuple[Random, int]:
        """One draw from a copy of the row's generator: the row itself does not change."""
        params = state.params
        if params.fault_at == state.done:
            if params.fault == "raise":
                raise RuntimeError(f"row {params.seed} is broken")
            if params.fault == "device":
                raise DeviceFailure("the device is gone")
        rng = Random()
        rng.setstate(state.rng.getstate())
        return rng, rng.randrange(1000)

    def _commit(self, state: FakeState, rng: Random, drawn: int) -> StepOutput[Chunk]:
        params = state.params
        step = state.done
        state.rng, state.done = rng, step + 1
        state.total = (31 * state.total + drawn) % 10**9
        if params.fault == "not_finite" and params.fault_at == step:
            state.finished = True
            return StepOutput(None, FinishReason.ERROR, 1.0)
        if step < params.silent:
            return StepOutput(None, None, 1.0)
        state.finished = state.done >= params.silent + params.steps
        if params.previews and not state.finished:
            return StepOutput(Preview(state.total), None, 1.0)
        return StepOutput(state.total, FinishReason.LENGTH if state.finished else None, 1.0)
