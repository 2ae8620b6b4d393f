"""A step's forward: all its tokens as one sequence, or as padded batches where a model's attention is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from services.families.transformer.forward import SlotForward, Span, Turn, choose_prompts, prompt_budget
from tests.checkpoints import ARCHITECTURES
from tests.unit.transformer.driver import GREEDY, Loaded, load_folder, random_prompts


def padded(forward: SlotForward) -> SlotForward:
    """The same model and cache, one padded batch after the other."""
    return SlotForward(
        forward._model, forward.cache, flat=False, keeps_logits=forward._keeps_logits, dtype=forward._dtype
    )


def filled(loaded: Loaded, prompts: list[list[int]]) -> SlotForward:
    """A forward whose slots hold all prompts but their last token."""
    forward: SlotForward = loaded.sampler.forward
    forward.cache.reserve(len(prompts), 128, max_slots=16, used=0, used_length=0)
    for slot, prompt in enumerate(prompts):
        padded(forward).logits([Span(slot, 0, prompt[:-1])])
    return forward


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_sequence_gives_the_logits_of_padded_batches(folders: Callable[..., Path], architecture: str) -> None:
    """Rows that decode, with guesses and without, beside pieces of unlike lengths, in slots that are no neighbours."""
    prompts = random_prompts(6, longest=40, seed=5)
    with torch.inference_mode():
        forward = filled(load_folder(folders(architecture)), prompts)
        spans = [
            Span(slot, len(prompt) - 1, [prompt[-1], *[7] * (slot % 3)], 1 + slot % 3)
            for slot, prompt in enumerate(prompts)
        ]
        groups = [spans[0], spans[1], spans[3]], [Span(4, 0, prompts[4]), Span(2, 0, prompts[2][:5], 5)]
        one = forward.logits(*groups)
        several = padded(forward).logits(*groups)
    assert one.shape[0] == 1 + 2 + 1 + 1 + 5
    assert (one - several).abs().max() < 1e-4 * several.abs().max()


def test_a_model_whose_attention_is_its_own_runs_padded(folders: Callable[..., Path]) -> None:
    assert {name: load_folder(folders(name)).sampler.forward.flat for name in ARCHITECTURES} == {
        name: name != "gptj" for name in ARCHITECTURES
    }


@pytest.mark.parametrize(("architecture", "expected"), [("llama", 1), ("gptj", 2)])
def test_rows_that_decode_and_rows_that_read_share_a_forward(
    folders: Callable[..., Path], architecture: str, expected: int
) -> None:
    loaded = load_folder(folders(architecture))
    calls: list[Tensor] = []
    model: Any = loaded.sampler.forward._model
    loaded.sampler.forward._model = lambda **given: calls.append(given["input_ids"]) or model(**given)
    states = [loaded.sampler.start(loaded.row(prompt, 4, sampling=GREEDY)) for prompt in ([5, 6, 7], [8] * 40)]
    loaded.sampler.step(states)
    assert states[0].decoding
    assert not states[1].decoding
    calls.clear()
    loaded.sampler.step(states)
    assert len(calls) == expected
    assert sum(ids.numel() for ids in calls) == 1 + 16, "a token, and a piece of a prompt"
    for state in states:
        loaded.sampler.release(state)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 64), (4, 64), (5, 80), (64, 1024)])
def test_a_step_reads_more_of_prompts_the_more_rows_share_it(rows: int, tokens: int) -> None:
    assert prompt_budget(64, rows) == tokens


def test_those_that_have_waited_longest_read_first_and_more_join_within_the_budget() -> None:
    waiting = [Turn(9, 1), Turn(2, 10), Turn(5, 64), Turn(3, 30)]
    assert choose_prompts(waiting, 64, padded=False) == [1, 3, 0]
    assert choose_prompts(waiting, 64) == [1, 3], "two pieces of 30, and a third would be another"
    assert choose_prompts(waiting, 5) == choose_prompts(waiting, 5, padded=False) == [1], "one reads in any case"
    assert choose_prompts([], 64) == []


def test_a_block_that_several_rows_share_is_read_by_one_of_them() -> None:
    waiting = [Turn(1, 16, b"first"), Turn(0, 16, b"first"), Turn(2, 16, b"second"), Turn(3, 16), Turn(4, 16)]
    assert choose_prompts(waiting, 64, padded=False) == [1, 2, 3, 4]


def test_many_prompts_that_come_at_once_are_read_in_few_steps_beside_those_that_decode(
    folders: Callable[..., Path],
) -> None:
    loaded = load_folder(folders("llama"), max_batch_size=16, prefill_tokens=16)
    runner = loaded.sampler.start(loaded.row([5, 6], 60, sampling=GREEDY, ignore_eos=True))
    loaded.sampler.step([runner])
    readers = [loaded.sampler.start(loaded.row([7 + i] * 32, 4, sampling=GREEDY)) for i in range(15)]
    reads: list[int] = []
    while not all(reader.decoding for reader in readers):
        made, before = runner.generated, sum(reader.length for reader in readers if not reader.decoding)
        waiting = [reader for reader in readers if not reader.decoding]
        loaded.sampler.step([runner, *readers])
        reads.append(sum(reader.length for reader in waiting) - before)
        assert runner.generated == made + 1
    assert sum(reads) == 15 * 32
    assert max(reads) <= prompt_budget(16, 16)
    assert len(reads) == 2
    for row in (runner, *readers):
        loaded.sampler.release(row)
