"""Shared beginnings of prompts: read once, found by the rows of one salt alone, and no answer changes by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from services.engine.contract import FinishReason
from services.families.transformer.forward import SlotForward, Span
from services.nn import linears
from services.nn.text.params import GenerateParams, SamplingOptions
from shared.schemas.text import ChatRequest, CompletionRequest
from tests.unit.transformer.driver import GREEDY, Answer, Loaded, load_folder, random_prompts

PIECE = 16  # prompt tokens that a step reads for a row, and so the size of a block
SYSTEM = [(11 * i) % 390 + 3 for i in range(70)]  # four blocks and a bit
HOT = SamplingOptions(temperature=1.2, top_k=80, top_p=0.95, repetition_penalty=1.2, frequency_penalty=0.3)

Folders = Callable[..., Path]


def same(got: Answer, expected: Answer) -> bool:
    """Whether the answers are equal to the last bit."""
    return (got.tokens, got.text, got.logprobs, got.finish) == (
        expected.tokens,
        expected.text,
        expected.logprobs,
        expected.finish,
    )


@pytest.fixture(autouse=True)
def same_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loads of a checkpoint are compared bit for bit: what a busy machine's benchmark chooses must not tell."""
    monkeypatch.setattr(linears, "_MARGIN", inf)


def run_one(loaded: Loaded, row: GenerateParams) -> Answer:
    (answer,) = loaded.run([row])
    return answer


@pytest.mark.parametrize("sampling", [GREEDY, HOT], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [("gpt2", {}), ("llama", {}), ("mistral", {}), ("llama", {"dtype": "bfloat16"})],
    ids=["gpt2", "llama", "mistral", "half precision"],
)
def test_a_row_that_finds_its_prompts_beginning_answers_as_one_that_read_it(
    folders: Folders, architecture: str, options: dict[str, Any], sampling: SamplingOptions
) -> None:
    folder = folders(architecture)
    loaded = load_folder(folder, **options)
    rows = [
        loaded.row([*SYSTEM, *rest], 16, seed=5, sampling=sampling, ignore_eos=True, logprobs=2)
        for rest in ([7, 8, 9], [9] * 40)
    ]
    fresh = load_folder(folder, prefix_cache=False, **options)
    expected = [run_one(fresh, row) for row in rows]
    cold, again, other = run_one(loaded, rows[0]), run_one(loaded, rows[0]), run_one(loaded, rows[1])
    assert [answer.cached for answer in (*expected, cold, again, other)] == [0, 0, 0, 64, 64]
    assert same(cold, expected[0])
    assert same(again, expected[0])
    assert same(other, expected[1])


def test_units_count_what_was_read_and_not_what_was_found(llama: Loaded) -> None:
    row = llama.row(SYSTEM, 5, sampling=GREEDY, ignore_eos=True)
    assert run_one(llama, row).units == 70 + 5
    assert run_one(llama, row).units == 6 + 5


@pytest.mark.parametrize(("length", "found"), [(15, 0), (16, 0), (17, 16), (32, 16), (33, 32)])
def test_the_last_token_of_a_prompt_is_always_read(llama: Loaded, length: int, found: int) -> None:
    row = llama.row(SYSTEM[:length], 4, sampling=GREEDY)
    first, second = run_one(llama, row), run_one(llama, row)
    assert second.cached == found
    assert same(second, first)


def test_a_block_that_ends_with_one_prompt_serves_a_longer_one(llama: Loaded) -> None:
    run_one(llama, llama.row(SYSTEM[:32], 4, sampling=GREEDY))
    assert run_one(llama, llama.row(SYSTEM[:33], 4, sampling=GREEDY)).cached == 32


def test_two_tenants_never_share(llama: Loaded) -> None:
    request = CompletionRequest(model="tiny", prompt=[SYSTEM], max_tokens=2, temperature=0.0)
    found = [
        run_one(llama, llama.tasks["completion"].prepare(request, tenant)[0]).cached
        for tenant in ("ann", "bob", "", "ann", "bob", "")
    ]
    assert found == [0, 0, 0, 64, 64, 64]


def test_chats_of_one_tenant_share_their_system_prompt(llama: Loaded) -> None:
    def chat(question: str) -> GenerateParams:
        messages = [
            {"role": "system", "content": "The spring on Parnassus gives water to whoever climbs up to it. " * 3},
            {"role": "user", "content": question},
        ]
        request = ChatRequest.model_validate({"model": "tiny", "messages": messages, "max_tokens": 4})
        return llama.tasks["chat"].prepare(request, "ann")[0]

    one, two = chat("Who drank?"), chat("Who sang?")
    shared = next(i for i, (a, b) in enumerate(zip(one.prompt, two.prompt, strict=False)) if a != b)
    run_one(llama, one)
    assert run_one(llama, two).cached == shared // PIECE * PIECE > 0


def test_a_row_that_scores_its_prompt_reads_all_of_it(llama: Loaded) -> None:
    scored = llama.row(SYSTEM, 4, sampling=GREEDY, logprobs=1, echo="prompt ")
    first, second = run_one(llama, scored), run_one(llama, scored)
    assert (first.cached, second.cached) == (0, 0)
    assert len(second.logprobs) == 70 + len(second.tokens)
    assert run_one(llama, llama.row(SYSTEM, 4, sampling=GREEDY)).cached == 64  # what it read, others find


def test_rows_that_found_unequal_parts_run_together_as_each_alone(folders: Folders) -> None:
    folder = folders("llama")
    prompts = [[*SYSTEM, 7], [*SYSTEM[:40], *[9] * 30], random_prompts(1, longest=90, seed=3)[0], SYSTEM[:20], [5, 6]]
    loaded, fresh = load_folder(folder), load_folder(folder, prefix_cache=False)
    rows = [loaded.row(p, 20, seed=i, sampling=HOT, ignore_eos=True) for i, p in enumerate(prompts)]
    expected = [run_one(fresh, row) for row in rows]
    run_one(loaded, loaded.row(SYSTEM, 1, sampling=GREEDY))
    for stagger in (0, 3):
        answers = loaded.run(rows, stagger=stagger)
        assert [answer.tokens for answer in answers] == [answer.tokens for answer in expected]
        assert [answer.cached for answer in answers][:2] == [64, 32 if stagger == 0 else 64]


def test_rows_that_begin_together_read_what_they_share_once(llama: Loaded) -> None:
    rows = [llama.row([*SYSTEM, i], 3, seed=i, sampling=GREEDY, ignore_eos=True) for i in range(4, 10)]
    answers = llama.run(rows)
    assert sum(answer.units for answer in answers) == 64 + 6 * (7 + 3)
    assert [answer.tokens for answer in answers] == [run_one(llama, row).tokens for row in rows]


def test_without_the_prefix_cache_nothing_is_kept(folders: Folders) -> None:
    loaded = load_folder(folders("llama"), prefix_cache=False)
    row = loaded.row(SYSTEM, 2, sampling=GREEDY)
    assert [run_one(loaded, row).cached for _ in range(2)] == [0, 0]


class Breaks(SlotForward):
    """Computes, cache writes included, and raises; every call but the first `sound` ones."""

    def __init__(self, inner: SlotForward, sound: int) -> None:
        self.inner, self.sound = inner, sound
        self.flat = inner.flat

    def logits(self, decoding: Sequence[Span], reading: Sequence[Span] = ()) -> Tensor:
        logits = self.inner.logits(decoding, reading)
        self.sound -= 1
        if self.sound < 0:
            raise RuntimeError("injected fault")
        return logits


def test_a_step_that_fails_keeps_nothing(llama: Loaded) -> None:
    row = llama.row(SYSTEM, 4, sampling=GREEDY)
    whole, llama.sampler.forward = llama.sampler.forward, Breaks(llama.sampler.forward, sound=2)
    state = llama.sampler.start(row)
    llama.sampler.step([state])
    llama.sampler.step([state])
    with pytest.raises(RuntimeError, match="injected"):
        llama.sampler.step([state])
    assert (cast(Any, state).length, cast(Any, state).cached) == (32, 0)
    llama.sampler.release(state)
    llama.sampler.forward = whole
    assert run_one(llama, row).cached == 32


def test_a_row_whose_values_are_not_finite_leaves_no_prefix_behind(folders: Folders) -> None:
    loaded = load_folder(folders("llama", tie_word_embeddings=False))
    weight = cast(Any, loaded.sampler.forward)._model.get_input_embeddings().weight
    prompt = [*SYSTEM[:20], 401, *SYSTEM[:40]]
    row = loaded.row(prompt, 6, sampling=GREEDY, ignore_eos=True)
    expected = run_one(load_folder(loaded.folder, prefix_cache=False), row)
    kept = weight[401].clone()
    with torch.no_grad():
        weight[401] = torch.nan
        assert run_one(loaded, row).finish is FinishReason.ERROR
        weight[401] = kept
    answer = run_one(loaded, row)
    assert answer.cached == 16  # the block before the poison
    assert same(answer, expected)


def test_a_row_that_needs_room_takes_it_from_other_prefixes_first(folders: Folders) -> None:
    loaded = load_folder(folders("llama"), cache_memory=2 * 2**20)
    run_one(loaded, loaded.row(SYSTEM, 1, sampling=GREEDY))
    for i in range(26):  # six blocks each: what is used longest ago is the system prompt, and there is room for no more
        run_one(loaded, loaded.row([3 + i] * 100, 1, sampling=GREEDY))
    assert run_one(loaded, loaded.row([*SYSTEM, 7], 180, sampling=GREEDY)).cached == 64
    assert run_one(loaded, loaded.row([3] * 100, 1, sampling=GREEDY)).cached < 96


def test_under_memory_pressure_rows_are_admitted_as_if_nothing_were_kept(folders: Folders) -> None:
    folder = folders("llama")
    options = {"cache_memory": 2 * 2**20, "max_batch_size": 64}
    loaded, fresh = load_folder(folder, **options), load_folder(folder, prefix_cache=False, **options)
    for prompt in random_prompts(40, longest=100, seed=8):
        run_one(loaded, loaded.row(prompt, 1, sampling=GREEDY))
    assert run_one(loaded, loaded.row(SYSTEM, 1, sampling=GREEDY)).cached == 0
    rows = [loaded.row([*SYSTEM[: 10 + i], i + 3], 30, sampling=GREEDY, ignore_eos=True) for i in range(60)]
    admitted = []
    for each in (loaded, fresh):
        states: list[Any] = []
        for row in rows:
            if not each.sampler.fits(row, states):
                break
            states.append(each.sampler.start(row))
        admitted.append(len(states))
        for state in states:
            each.sampler.release(state)
    assert 2 < admitted[0] == admitted[1] < len(rows)
    some = rows[: admitted[0]]
    answers = loaded.run(some)
    assert [answer.tokens for answer in answers] == [answer.tokens for answer in fresh.run(some)]
    assert any(answer.cached for answer in answers)
