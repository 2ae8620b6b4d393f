"""Rows of a recurrent net: prompts in pieces, scores of prompts, memory, failures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from services.engine.contract import FinishReason, StepOutput
from services.families import LoadedModel
from services.families.recurrent.family import load
from services.families.recurrent.sampler import PIECE, RecurrentSampler, SamplerLimits, row_memory
from services.families.recurrent.state import RowState
from services.families.recurrent.text.tokens import EOS
from services.nn.text.detokenizer import make_detokenizer
from services.nn.text.params import GenerateParams, SamplingOptions, TextChunk
from services.nn.text.rows import RowText
from shared.schemas.text import CompletionRequest
from tests.contract.driver import bare_loop
from tests.unit.recurrent.tiny import text_config, tiny_folder

GREEDY = SamplingOptions(temperature=0)


def row(prompt: Sequence[int], new: int = 5, **options: Any) -> GenerateParams:
    return GenerateParams("completion", tuple(prompt), new, 0, ignore_eos=True, **options)


def limited(loaded: LoadedModel, **changes: Any) -> RecurrentSampler:
    """A sampler of the same net with other limits."""
    model = loaded.sampler.model
    limits = replace(SamplerLimits(8, 512, 2**20), **changes)
    text = RowText(make_detokenizer(loaded.tasks["completion"].generation.vocabulary), frozenset({EOS}))
    return RecurrentSampler(model, text, limits)


def answer(sampler: Any, params: GenerateParams) -> str:
    return "".join(chunk.text for chunk in bare_loop(sampler, params))


def text_of(output: StepOutput[Any]) -> str:
    return "" if output.chunk is None else output.chunk.text


def prompt_of(length: int) -> list[int]:
    return [(11 * i) % 250 + 2 for i in range(length)]


def test_greedy_tokens_are_those_of_the_plain_net(loaded: LoadedModel) -> None:
    ids, net = prompt_of(PIECE + 3), loaded.sampler.model
    with torch.inference_mode():
        for _ in range(9):
            ids.append(net(torch.tensor([ids]))[0][0, -1].argmax().item())
    vocabulary = loaded.tasks["completion"].generation.vocabulary
    got = answer(loaded.sampler, row(ids[: PIECE + 3], 9, sampling=GREEDY))
    assert got == vocabulary.decode(ids[PIECE + 3 :])


def test_where_a_prompt_is_cut_changes_no_token(lstm: LoadedModel) -> None:
    params = row(prompt_of(70), 8, sampling=GREEDY)
    assert answer(limited(lstm, prefill_tokens=5), params) == answer(lstm.sampler, params)


def test_a_step_reads_no_more_of_prompts_than_it_may_and_starves_none(lstm: LoadedModel) -> None:
    sampler = limited(lstm, prefill_tokens=2 * PIECE)
    states = [sampler.start(row(prompt_of(3 * PIECE))) for _ in range(5)]
    for _ in range(8):
        before = [state.length for state in states if isinstance(state, RowState)]
        units = sum(output.units for output in sampler.step(states))
        assert units <= 2 * PIECE + len(states)
        assert sum(state.length > old for state, old in zip(states, before, strict=True)) >= 2
    assert all(state.decoding for state in states)


def test_logprobs_of_an_echoed_prompt_are_the_nets_own(loaded: LoadedModel) -> None:
    ids, net = prompt_of(2 * PIECE + 1), loaded.sampler.model
    chunks: list[TextChunk] = list(bare_loop(loaded.sampler, row(ids, 1, logprobs=2, echo="x")))
    raw = [each for chunk in chunks for each in chunk.logprobs or ()]
    assert [each.token for each in raw[: len(ids)]] == ids
    assert math.isnan(raw[0].logprob)
    with torch.inference_mode():
        logprobs = net(torch.tensor([ids]))[0][0].log_softmax(-1)
    for at in range(1, len(ids)):
        assert raw[at].logprob == pytest.approx(logprobs[at - 1, ids[at]].item(), abs=1e-4)
        assert raw[at].top[0][1] == pytest.approx(logprobs[at - 1].max().item(), abs=1e-4)


def test_a_row_of_no_new_tokens_scores_its_prompt_and_costs_no_more(lstm: LoadedModel) -> None:
    params = row(prompt_of(5), 0, logprobs=0, echo="prompt")
    state = lstm.sampler.start(params)
    (output,) = lstm.sampler.step([state])
    lstm.sampler.release(state)
    assert (output.finish_reason, output.units) == (FinishReason.LENGTH, 5)
    assert (output.chunk.text, output.chunk.completion_tokens) == ("prompt", 0)
    assert [raw.token for raw in output.chunk.logprobs] == prompt_of(5)


def test_a_whole_answer_comes_as_one_chunk(lstm: LoadedModel) -> None:
    params = row(prompt_of(4), 12)
    chunks = list(bare_loop(lstm.sampler, replace(params, whole=True)))
    assert [chunk.text for chunk in chunks if chunk.text] == [answer(lstm.sampler, params)]


def test_an_end_token_ends_the_row_and_is_no_text(lstm: LoadedModel) -> None:
    params = replace(row(prompt_of(4), 9), ignore_eos=False, sampling=SamplingOptions(bias={EOS: 1000.0}))
    state = lstm.sampler.start(params)
    (output,) = lstm.sampler.step([state])
    lstm.sampler.release(state)
    assert (output.finish_reason, output.chunk.text, output.chunk.completion_tokens) == (FinishReason.STOP, "", 1)


def test_rows_are_admitted_while_their_states_fit(lstm: LoadedModel) -> None:
    each = row_memory(lstm.sampler.model)
    sampler = limited(lstm, state_memory=3 * each)
    states: list[Any] = []
    while sampler.fits(row([2]), states):
        states.append(sampler.start(row([2])))
    assert len(states) == 3
    for state in states:
        sampler.release(state)
    assert not sampler.rows


def test_a_row_whose_state_is_no_number_fails_alone(loaded: LoadedModel) -> None:
    params = row(prompt_of(3), 6, sampling=GREEDY)
    expected = answer(loaded.sampler, params)
    bad, good = loaded.sampler.start(params), loaded.sampler.start(params)
    pieces = [text_of(loaded.sampler.step([bad, good])[1])]
    bad.state = torch.full_like(bad.state, float("nan"))
    first = loaded.sampler.step([bad, good])
    assert first[0].finish_reason is FinishReason.ERROR
    loaded.sampler.release(bad)
    pieces.append(text_of(first[1]))
    reason = first[1].finish_reason
    while reason is None:
        (output,) = loaded.sampler.step([good])
        pieces.append(text_of(output))
        reason = output.finish_reason
    loaded.sampler.release(good)
    assert "".join(pieces) == expected


def test_a_row_keeps_its_own_state_and_not_its_batchs(lstm: LoadedModel) -> None:
    sampler = limited(lstm)
    states = [sampler.start(row(prompt_of(3))) for _ in range(4)]
    sampler.step(states)
    kept = states[0].state
    assert kept is not None
    assert kept.untyped_storage().nbytes() == kept.nbytes


@pytest.mark.parametrize(
    "body", [{"prompt": ["", "Oh"], "n": 3, "max_tokens": 7}, {"prompt": [5, 6], "max_tokens": 20}]
)
def test_the_bound_of_a_cost_is_no_less_than_the_cost(lstm: LoadedModel, tmp_path: Path, body: dict[str, Any]) -> None:
    request = CompletionRequest(model="tiny", **body)
    rows = lstm.tasks["completion"].prepare(request)
    bound = text_config(tmp_path, context_length=256).cost_bound(request, lstm.limits)
    assert sum(each.cost for each in rows) <= bound <= 2 * sum(each.cost for each in rows)


def test_memory_that_holds_no_row_is_refused_at_the_start(tmp_path: Path) -> None:
    folder = tiny_folder("rnn", tmp_path)
    with pytest.raises(ValueError, match="state_memory is 1000"):
        load(text_config(folder, state_memory=1000), folder)
