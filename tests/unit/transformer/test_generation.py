"""Batched generation on the slot cache against `model.generate` and against the row alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import PreTrainedModel

from services.engine.contract import FinishReason
from services.nn.text.params import SamplingOptions
from tests.checkpoints import ARCHITECTURES
from tests.unit.transformer.driver import GREEDY, Loaded, greedy_tokens, load_folder, random_prompts

Reference = Callable[[Path], PreTrainedModel]
EOS = 2


PROMPTS = random_prompts(16, longest=100)
NEW = [3 + i for i in range(16)]


@pytest.fixture(scope="module")
def generated(folders: Callable[..., Path], reference: Reference) -> Callable[[str], list[list[int]]]:
    """What `generate` makes of each prompt alone, computed once for each architecture."""
    made: dict[str, list[list[int]]] = {}

    def generate(architecture: str) -> list[list[int]]:
        if architecture not in made:
            model = reference(folders(architecture))
            made[architecture] = [greedy_tokens(model, p, n, eos=EOS) for p, n in zip(PROMPTS, NEW, strict=True)]
        return made[architecture]

    return generate


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stagger", [0, 3])
def test_greedy_rows_in_a_batch_equal_generate(
    folders: Callable[..., Path], generated: Callable[[str], list[list[int]]], architecture: str, stagger: int
) -> None:
    loaded = load_folder(folders(architecture))
    rows = [loaded.row(p, n, sampling=GREEDY) for p, n in zip(PROMPTS, NEW, strict=True)]
    answers = loaded.run(rows, stagger=stagger)
    for answer, prompt, expected in zip(answers, PROMPTS, generated(architecture), strict=True):
        assert answer.tokens == expected
        assert answer.finish is (FinishReason.STOP if expected[-1] == EOS else FinishReason.LENGTH)
        assert answer.units == len(prompt) + len(expected)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_packed_linears_generate_the_same_tokens(
    folders: Callable[..., Path], reference: Reference, architecture: str
) -> None:
    shape = {"n_embd": 256, "n_layer": 2} if architecture == "gpt2" else {"hidden_size": 256, "intermediate_size": 512}
    loaded = load_folder(folders(architecture, embeddings=2048, **shape))
    prompts = random_prompts(6, longest=40)
    rows = [loaded.row(p, 8, sampling=GREEDY, ignore_eos=True) for p in prompts]
    for answer, prompt in zip(loaded.run(rows), prompts, strict=True):
        assert answer.tokens == greedy_tokens(reference(loaded.folder), prompt, 8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_seeded_row_samples_the_same_alone_and_among_fifteen_others(
    folders: Callable[..., Path], architecture: str
) -> None:
    loaded = load_folder(folders(architecture))
    hot = SamplingOptions(temperature=1.3)
    shaped = SamplingOptions(temperature=0.9, top_k=40, top_p=0.95, min_p=0.01, frequency_penalty=0.5)
    prompts = random_prompts(16, longest=60, seed=1)
    rows = [
        loaded.row(p, 12, seed=i, sampling=hot if i % 2 else shaped, ignore_eos=True) for i, p in enumerate(prompts)
    ]
    together = loaded.run(rows)
    for i in (0, 1, 14, 15):
        (alone,) = loaded.run([rows[i]])
        assert alone.tokens == together[i].tokens
    assert together[1].tokens != loaded.run([loaded.row(prompts[1], 12, seed=99, sampling=hot)])[0].tokens


def test_a_prompt_read_piecewise_gives_the_logits_of_the_whole(folders: Callable[..., Path]) -> None:
    prompt = random_prompts(1, longest=1)[0] * 90
    answers = [
        loaded.run([loaded.row(prompt, 4, sampling=GREEDY, logprobs=3)])[0]
        for loaded in (load_folder(folders("llama"), prefill_tokens=piece) for piece in (7, 16, 200))
    ]
    for answer in answers[1:]:
        assert answer.tokens == answers[0].tokens
        for got, expected in zip(answer.logprobs, answers[0].logprobs, strict=True):
            assert got.logprob == pytest.approx(expected.logprob, abs=1e-4)


def test_a_prompt_of_two_thousand_tokens_delays_no_running_row(folders: Callable[..., Path]) -> None:
    llama = load_folder(folders("llama", context=2560), prefill_tokens=64)
    runner = llama.sampler.start(llama.row([5, 6], 60, sampling=GREEDY, ignore_eos=True))
    llama.sampler.step([runner])
    reader = llama.sampler.start(llama.row([7] * 2000, 4, sampling=GREEDY))
    steps = 0
    while not reader.decoding:
        made, read = runner.generated, reader.length
        llama.sampler.step([runner, reader])
        assert runner.generated == made + 1, "every step gives the runner a token"
        assert 0 < reader.length - read <= 64, "and reads a bounded piece of the prompt"
        steps += 1
    assert steps == 32  # 2,000 tokens in pieces of 64
    for row in (runner, reader):
        llama.sampler.release(row)


def test_prompts_take_turns_and_share_steps_within_their_bound(folders: Callable[..., Path]) -> None:
    llama = load_folder(folders("llama", context=2560), prefill_tokens=64)
    long = llama.sampler.start(llama.row([7] * 400, 4, sampling=GREEDY))
    short = [llama.sampler.start(llama.row([8] * 15, 4, sampling=GREEDY)) for _ in range(6)]
    states = [long, *short]
    llama.sampler.step(states)  # 7 times 16 tokens: a piece of 64, and three prompts of 15
    assert long.length == 64
    assert [row.decoding for row in short] == [True] * 3 + [False] * 3
    llama.sampler.step(states)
    assert all(row.decoding for row in short)
    assert long.length == 128, "there was room for its piece"
    for state in states:
        llama.sampler.release(state)


def test_a_stream_of_new_prompts_does_not_starve_one_that_is_half_read(folders: Callable[..., Path]) -> None:
    llama = load_folder(folders("llama", context=2560), prefill_tokens=64, prefix_cache=False)
    states = [llama.sampler.start(llama.row([7] * 640, 4, sampling=GREEDY))]
    long = states[0]
    for _ in range(45):  # ten pieces, of which each waits for three newcomers
        while len(states) < 4:
            states.append(llama.sampler.start(llama.row([8] * 64, 4, sampling=GREEDY)))
        llama.sampler.step(states)
        for row in [row for row in states[1:] if row.decoding]:
            states.remove(row)
            llama.sampler.release(row)
        if long.decoding:
            break
    assert long.decoding
    for row in states:
        llama.sampler.release(row)


def test_a_row_whose_penalties_overflow_fails_alone(llama: Loaded) -> None:
    prompts = random_prompts(3, longest=10)
    rows = [llama.row(p, 12, sampling=SamplingOptions(), ignore_eos=True, seed=i) for i, p in enumerate(prompts)]
    healthy = llama.run([rows[0], rows[2]])
    wild = llama.row(list(range(3, 200)), 12, sampling=SamplingOptions(repetition_penalty=1e-39))
    first, failed, last = llama.run([rows[0], wild, rows[2]])
    assert failed.finish is FinishReason.ERROR
    assert [first.tokens, last.tokens] == [answer.tokens for answer in healthy]


def test_a_row_whose_values_are_not_finite_fails_alone_and_leaves_no_trace(folders: Callable[..., Path]) -> None:
    loaded = load_folder(folders("llama", tie_word_embeddings=False))
    weight = cast(Any, loaded.sampler.forward)._model.get_input_embeddings().weight
    # The poison sits behind the first piece of the second prompt, among rows that are decoding by then.
    prompts = [[10, 11, 12], [13] * 20 + [300] + [14] * 20, [15, 16]]
    rows = [loaded.row(p, 12, sampling=GREEDY, ignore_eos=True) for p in prompts]
    healthy = loaded.run([rows[0], rows[2]])
    kept = weight[300].clone()
    with torch.no_grad():
        weight[300] = torch.nan
        poisoned = loaded.run(rows)
        assert [a.finish for a in poisoned] == [FinishReason.LENGTH, FinishReason.ERROR, FinishReason.LENGTH]
        assert [poisoned[0].tokens, poisoned[2].tokens] == [a.tokens for a in healthy]
        # A runner takes over the poisoned slot while the cache lives on.
        runner = loaded.sampler.start(rows[0])
        assert loaded.run([rows[1]])[0].finish is FinishReason.ERROR
        assert loaded.run([rows[2]])[0].tokens == healthy[1].tokens
        loaded.sampler.release(runner)
        weight[300] = kept


def test_half_precision_rows_in_a_batch_agree_with_the_row_alone(folders: Callable[..., Path]) -> None:
    loaded = load_folder(folders("llama"), dtype="bfloat16")
    prompts = random_prompts(5, longest=30)
    rows = [loaded.row(p, 1, sampling=GREEDY, logprobs=1) for p in prompts]
    for answer, row in zip(loaded.run(rows), rows, strict=True):
        (alone,) = loaded.run([row])
        assert answer.logprobs[0].logprob == pytest.approx(alone.logprobs[0].logprob, abs=0.2)


def test_a_step_over_rows_that_are_not_neighbours_gives_the_same_tokens(llama: Loaded) -> None:
    prompts = random_prompts(5, longest=20)
    rows = [llama.row(p, 10, sampling=GREEDY, ignore_eos=True) for p in prompts]
    expected = [answer.tokens for answer in llama.run(rows)]
    states = [llama.sampler.start(row) for row in rows]
    made: list[list[int]] = [[] for _ in rows]
    for turn in range(200):
        chosen = [i for i in range(5) if (i + turn) % 2 == 0 and len(made[i]) < 10]
        before = [states[i].generated for i in chosen]
        llama.sampler.step([states[i] for i in chosen])
        for i, count in zip(chosen, before, strict=True):
            if states[i].generated > count:
                made[i].append(states[i].token)
    assert made == expected
    for state in states:
        llama.sampler.release(state)
