"""Rows that vLLM runs: what they give beside our own decoders' rules, when they end, and what happens if vLLM does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.engine.contract import FinishReason
from services.engine.errors import DeviceFailure
from services.families.transformer.vllm.client import Loop
from services.families.transformer.vllm.family import assemble
from services.families.transformer.vllm.sampler import RowRefused, VllmSampler
from services.nn.text.params import GenerateParams
from shared.config.transformer import VllmModel
from shared.schemas.text import ChatRequest, CompletionRequest, TokenizeRequest
from tests.unit.transformer.driver import Answer, Loaded
from tests.unit.transformer.vllm.fake import FakeVllm

WORDS = "The spring on Parnassus gives water"


@pytest.fixture
def llama(folders: Callable[..., Path]) -> Callable[..., Loaded]:
    def load(vllm: FakeVllm, **options: Any) -> Loaded:
        folder = folders("llama")
        entry = {"id": "tiny", "source": f"file://{folder}", "engine": "vllm", "context_length": 128, **options}
        loaded = assemble(VllmModel.model_validate(entry), folder, vllm.start)
        return Loaded(loaded.sampler, loaded.tasks, loaded.memory, loaded.limits, folder)

    return load


def says(loaded: Loaded, text: str, *more: int) -> Callable[[GenerateParams], Sequence[int]]:
    """The tokens of a text, whatever is asked."""
    return lambda _: [*loaded.tasks["completion"].generation.vocabulary.encode(text), *more]


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "tiny", "prompt": "What is", "max_tokens": 40, **fields})


def answers(loaded: Loaded, request: CompletionRequest | ChatRequest, salt: str = "") -> list[Answer]:
    task = "chat" if isinstance(request, ChatRequest) else "completion"
    return loaded.run(loaded.tasks[task].prepare(request, salt))


def test_a_row_is_asked_of_vllm_as_prepare_made_it(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    chat = ChatRequest.model_validate({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "n": 2})
    rows = loaded.tasks["chat"].prepare(chat, "ann")
    loaded.run(rows)
    assert vllm.seen == rows
    assert len({params.seed for params in vllm.seen}) == 2
    assert {params.salt for params in vllm.seen} == {"ann"}


def test_text_is_made_here_and_ends_before_a_stop_string_that_vllm_knows_nothing_of(
    llama: Callable[..., Loaded],
) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    vllm.tokens_of = says(loaded, WORDS * 3)
    (answer,) = answers(loaded, completion(stop=["Parnassus"]))
    assert (answer.text, answer.finish) == ("The spring on ", FinishReason.STOP)
    assert (vllm.rows, len(vllm.aborted)) == ({}, 1), "vLLM went on, and was told to stop"


def test_an_end_token_ends_a_row_and_vllm_needs_not_be_told(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    vllm.tokens_of = says(loaded, WORDS, 2, 100, 101)
    (answer,) = answers(loaded, completion())
    made = len(list(vllm.tokens_of(vllm.seen[0]))) - 2
    assert (answer.text, answer.finish) == (WORDS, FinishReason.STOP)
    assert answer.deltas[-1].completion_tokens == made, "the end token counts"
    (longer,) = answers(loaded, completion(ignore_eos=True, max_tokens=made + 2))
    assert longer.finish is FinishReason.LENGTH


def test_work_counts_what_vllm_read_and_made_and_tells_what_it_had_read_before(llama: Callable[..., Loaded]) -> None:
    loaded = llama(FakeVllm(cached=2))
    (answer,) = answers(loaded, completion(prompt=[10, 11, 12, 13, 14], max_tokens=6))
    assert answer.units == 3 + 6
    assert answer.cached == 2
    assert answer.deltas[-1].prompt_tokens == 5


@pytest.mark.parametrize("piece", [1, 4])
def test_logprobs_stand_beside_their_tokens_however_many_come_at_a_time(
    llama: Callable[..., Loaded], piece: int
) -> None:
    loaded = llama(FakeVllm(piece=piece))
    (answer,) = answers(loaded, completion(prompt=[10, 11, 12], max_tokens=6, logprobs=2, echo=True, seed=1))
    ids = [entry.token_id for entry in answer.logprobs]
    assert (ids[:3], len(ids)) == ([10, 11, 12], 9)
    assert [len(entry.top) for entry in answer.logprobs][3:] == [2] * 6


def test_a_prompt_that_is_only_scored_makes_no_token(llama: Callable[..., Loaded]) -> None:
    loaded = llama(FakeVllm())
    (answer,) = answers(loaded, completion(prompt=[10, 11, 12], max_tokens=0, logprobs=1, echo=True))
    assert [entry.token_id for entry in answer.logprobs] == [10, 11, 12]
    assert (answer.deltas[-1].completion_tokens, answer.finish, answer.units) == (0, FinishReason.LENGTH, 3)


def test_an_answer_of_a_form_ends_where_it_is_whole(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    vllm.tokens_of = says(loaded, "yes and more")
    (answer,) = answers(loaded, completion(structured_outputs={"choice": ["yes", "no"]}))
    assert (answer.text, answer.finish) == ("yes", FinishReason.STOP)
    (asked,) = vllm.seen
    assert asked.grammar is not None
    assert asked.grammar.form.text == ("yes", "no"), "vLLM is told the form too"


def test_a_row_that_is_released_is_aborted_before_anything_else_happens(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    one, other = (loaded.sampler.start(loaded.row([10, 11], 50, seed=i)) for i in range(2))
    loaded.sampler.step([one, other])
    loaded.sampler.release(one)
    assert (len(vllm.rows), vllm.aborted) == (1, ["0"])
    loaded.sampler.release(other)
    assert vllm.rows == {}


def test_a_row_that_never_met_vllm_leaves_without_a_word(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    loaded.sampler.release(loaded.sampler.start(loaded.row([10], 5)))
    assert (vllm.seen, vllm.aborted) == ([], [])


def test_tokenize_never_meets_vllm(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm(is_dead=True)
    loaded = llama(vllm)
    request = TokenizeRequest.model_validate({"model": "tiny", "prompt": "abc"})
    (params,) = loaded.tasks["tokenize"].prepare(request)
    (output,) = loaded.sampler.step([loaded.sampler.start(params)])
    assert output.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("fails", ["error", "abort"])
def test_a_row_that_vllm_ends_badly_fails_alone_behind_what_it_gave(llama: Callable[..., Loaded], fails: str) -> None:
    vllm = FakeVllm(tokens_of=lambda params: [50] * (3 if params.seed else 9))
    loaded = llama(vllm)
    good = loaded.sampler.start(loaded.row([10], 9, seed=0))
    vllm.fails = fails
    bad = loaded.sampler.start(loaded.row([10], 9, seed=1))
    for _ in range(3):
        assert all(output.units > 0 for output in loaded.sampler.step([good, bad]))
    with pytest.raises(RowRefused, match=f"vLLM ended the row: {fails}"):
        loaded.sampler.step([good, bad])
    with pytest.raises(RowRefused):
        loaded.sampler.step([bad])
    loaded.sampler.release(bad)
    vllm.fails = None
    assert loaded.sampler.step([good])[0].units == 1


def test_a_row_whose_tokens_end_too_soon_fails_rather_than_waits_for_ever(llama: Callable[..., Loaded]) -> None:
    loaded = llama(FakeVllm(tokens_of=lambda _: [50, 51]))
    state = loaded.sampler.start(loaded.row([10], 9))
    for _ in range(2):
        assert loaded.sampler.step([state])[0].units > 0
    with pytest.raises(RowRefused, match="not at its end"):
        loaded.sampler.step([state])


def test_a_dead_vllm_is_a_dead_device_for_what_runs_and_what_would(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    state = loaded.sampler.start(loaded.row([10], 9))
    vllm.is_dead = True
    with pytest.raises(DeviceFailure, match="processes are gone"):
        loaded.sampler.step([state])
    with pytest.raises(DeviceFailure):
        loaded.sampler.start(loaded.row([10], 9))
    loaded.sampler.release(state)


def test_a_vllm_that_says_nothing_for_too_long_is_a_dead_device(folders: Callable[..., Path]) -> None:
    now = 0.0
    vllm = FakeVllm(silent=True)
    sampler = VllmSampler(vllm, Loop(), text_of(folders), max_batch_size=4, silence_s=30, clock=lambda: now)
    now = 100.0  # nothing ran meanwhile, and nothing was to be said
    state = sampler.start(GenerateParams("completion", (10,), 5, 0))
    assert sampler.step([state])[0].units == 0
    now = 131.0
    with pytest.raises(DeviceFailure, match="said nothing for 31 s"):
        sampler.step([state])
    sampler.release(state)


def text_of(folders: Callable[..., Path]) -> Any:
    folder = folders("llama")
    config = VllmModel.model_validate({"id": "a", "source": f"file://{folder}", "engine": "vllm"})
    return assemble(config, folder, FakeVllm().start).sampler._text  # pyright: ignore


def test_a_sampler_that_nobody_holds_ends_vllms_processes(llama: Callable[..., Loaded]) -> None:
    vllm = FakeVllm()
    loaded = llama(vllm)
    loaded.run([loaded.row([10], 3)])
    assert not vllm.is_closed
    del loaded
    gc.collect()
    assert vllm.is_closed
