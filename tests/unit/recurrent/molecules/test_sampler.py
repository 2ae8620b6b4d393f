"""Attempts: what is not valid is drawn anew from another seed, and a step that fails begins nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from services.engine.contract import FinishReason, StepOutput
from services.families.recurrent.molecules.params import USUAL_TOKENS, MoleculeChunk, MoleculeParams, Wishes
from services.families.recurrent.molecules.sampler import MoleculeSampler
from services.nn.text.params import GenerateParams, TextChunk


@dataclass(eq=False)
class Words:
    """A sampler whose rows say their seed in two steps. `ends`: how the rows of a seed end."""

    ends: dict[int, FinishReason] = field(default_factory=dict[int, FinishReason])
    started: list[int] = field(default_factory=list[int])
    running: list[Any] = field(default_factory=list[Any])
    fails: bool = False
    max_batch_size: int = 4

    def batch_key(self, params: GenerateParams) -> str:
        return "words"

    def fits(self, params: GenerateParams, states: Sequence[Any]) -> bool:
        return len(states) < 2

    def start(self, params: GenerateParams) -> Any:
        self.started.append(params.seed)
        state = [params.seed, 0]
        self.running.append(state)
        return state

    def step(self, states: Sequence[Any]) -> list[StepOutput[TextChunk]]:
        if self.fails:
            raise RuntimeError("injected fault")
        outputs: list[StepOutput[TextChunk]] = []
        for state in states:
            state[1] += 1
            assert state[1] <= 2, "a row that has ended is not stepped again"
            end = self.ends.get(state[0], FinishReason.STOP) if state[1] == 2 else None
            chunk = TextChunk(str(state[0]), 1, 2, None, 0) if end not in (None, FinishReason.ERROR) else None
            outputs.append(StepOutput(chunk, end, 1.0))
        return outputs

    def release(self, state: Any) -> None:
        self.running.remove(state)


def params(attempts: int, seed: int = 7, scaffold: str = "") -> MoleculeParams:
    first = GenerateParams("molecule", (0,), max_new_tokens=9, seed=seed, whole=True)
    return MoleculeParams(first, scaffold, attempts, Wishes())


def run(sampler: MoleculeSampler, asked: MoleculeParams) -> tuple[list[StepOutput[Any]], float]:
    state = sampler.start(asked)
    outputs: list[StepOutput[Any]] = []
    while not outputs or outputs[-1].finish_reason is None:
        outputs += sampler.step([state])
    sampler.release(state)
    return outputs, sum(output.units for output in outputs)


def until(count: int) -> Callable[[str], bool]:
    """Says no to the first `count` that it is asked about."""
    left = [False] * count
    return lambda text: not left or left.pop()


@pytest.mark.parametrize(("refused", "attempts", "drawn"), [(0, 3, 1), (1, 3, 2), (2, 3, 3), (9, 3, 3), (9, 1, 1)])
def test_a_molecule_is_drawn_until_it_is_valid_or_its_attempts_end(refused: int, attempts: int, drawn: int) -> None:
    inner = Words()
    outputs, units = run(MoleculeSampler(inner, until(refused)), params(attempts))
    chunk = outputs[-1].chunk
    assert isinstance(chunk, MoleculeChunk)
    assert (chunk.attempts, len(inner.started), units) == (drawn, drawn, 2.0 * drawn)
    assert len(set(inner.started)) == drawn, "each attempt draws from a seed of its own"
    assert inner.started[0] == 7
    assert chunk.smiles == str(inner.started[-1])
    assert [output.chunk for output in outputs[:-1]] == [None] * (2 * drawn - 1)
    assert inner.running == []


def test_the_attempts_of_a_seed_are_the_same_each_time() -> None:
    one, two = Words(), Words()
    for inner in (one, two):
        run(MoleculeSampler(inner, until(3)), params(4))
    assert one.started == two.started


def test_a_molecule_begins_with_its_scaffold_and_is_judged_with_it() -> None:
    asked: list[str] = []
    sampler = MoleculeSampler(Words(), lambda smiles: not asked.append(smiles))
    outputs, _ = run(sampler, params(2, scaffold="c1cc"))
    assert outputs[-1].chunk.smiles == "c1cc7"
    assert asked == ["c1cc7"]


def test_a_molecule_of_one_attempt_is_not_judged() -> None:
    outputs, _ = run(MoleculeSampler(Words(), lambda smiles: pytest.fail("judged")), params(1))
    assert outputs[-1].chunk.smiles == "7"


@pytest.mark.parametrize(("end", "attempts"), [(FinishReason.LENGTH, 2), (FinishReason.ERROR, 1)])
def test_what_was_cut_counts_as_drawn_and_what_failed_as_failed(end: FinishReason, attempts: int) -> None:
    inner = Words(ends={7: end})
    outputs, _ = run(MoleculeSampler(inner, until(1)), params(2))
    assert len(inner.started) == attempts
    assert outputs[-1].finish_reason is (FinishReason.STOP if attempts == 2 else end)


def test_a_step_that_fails_begins_no_attempt_twice() -> None:
    inner = Words()
    sampler = MoleculeSampler(inner, until(1))
    state = sampler.start(params(3))
    sampler.step([state])
    sampler.step([state])
    inner.fails = True
    for _ in range(3):
        with pytest.raises(RuntimeError, match="injected"):
            sampler.step([state])
    inner.fails = False
    sampler.step([state])
    (output,) = sampler.step([state])
    assert isinstance(output.chunk, MoleculeChunk)
    assert output.chunk.attempts == len(inner.started) == 2
    sampler.release(state)
    assert inner.running == []


def test_a_score_passes_through_as_the_net_gives_it() -> None:
    inner = Words()
    sampler = MoleculeSampler(inner, lambda smiles: pytest.fail("judged"))
    score = replace(params(1).first, task="score")
    state = sampler.start(score)
    assert sampler.batch_key(score) == sampler.batch_key(params(1)) == "words"
    assert sampler.step([state])[0].chunk is None
    (output,) = sampler.step([state])
    assert isinstance(output.chunk, TextChunk)
    sampler.release(state)
    assert inner.running == []


def test_rows_are_counted_by_the_nets_own_sampler() -> None:
    sampler = MoleculeSampler(Words(), lambda smiles: True)
    states = [sampler.start(params(1)) for _ in range(2)]
    assert sampler.fits(params(1), states[:1])
    assert not sampler.fits(params(1), states)
    assert sampler.max_batch_size == 4


@pytest.mark.parametrize(("prompt", "longest", "cost"), [(1, 127, USUAL_TOKENS), (60, 68, 61), (1, 9, 10)])
def test_a_cost_is_what_a_molecule_usually_takes_within_what_it_can(prompt: int, longest: int, cost: int) -> None:
    first = GenerateParams("molecule", (0,) * prompt, max_new_tokens=longest, seed=0)
    assert MoleculeParams(first, "", 8, Wishes()).cost == cost
