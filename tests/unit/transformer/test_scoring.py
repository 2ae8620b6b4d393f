"""A prompt that is only scored: echo with log-probabilities and no token of the model's own."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import PreTrainedModel

from services.engine.contract import FinishReason
from shared.config.transformer import TransformerModel
from tests.unit.transformer.driver import Loaded, random_prompts
from tests.unit.transformer.test_tasks import completion, prepared


def test_a_scored_prompt_has_the_log_probabilities_of_a_plain_forward(
    llama: Loaded, reference: Callable[[Path], PreTrainedModel]
) -> None:
    prompts = random_prompts(3, longest=40, seed=5)
    rows = prepared(llama, completion(prompt=prompts, max_tokens=0, echo=True, logprobs=1))
    speaker = llama.row([5, 6, 7], 8, seed=1)
    *answers, spoken = llama.run([*rows, speaker])
    assert spoken.tokens == llama.run([speaker])[0].tokens
    for answer, prompt in zip(answers, prompts, strict=True):
        with torch.no_grad():
            plain = reference(llama.folder)(torch.tensor([prompt])).logits[0].log_softmax(-1)
        first, *rest = answer.logprobs
        assert isnan(first.logprob)
        assert [entry.token_id for entry in answer.logprobs] == prompt
        for at, entry in enumerate(rest):
            assert entry.logprob == pytest.approx(plain[at, entry.token_id].item(), abs=1e-3)
            assert entry.top[0].token_id == plain[at].argmax()


@pytest.mark.parametrize("logprobs", [None, 0])
def test_it_is_the_prompt_alone_and_counts_no_token_that_was_made(llama: Loaded, logprobs: int | None) -> None:
    body = completion(prompt="The capital of France", max_tokens=0, echo=True, logprobs=logprobs)
    (row,) = prepared(llama, body)
    (answer,) = llama.run([row])
    assert answer.text == "The capital of France"
    assert answer.finish is FinishReason.LENGTH
    (delta,) = answer.deltas
    assert (delta.prompt_tokens, delta.completion_tokens) == (len(row.prompt), 0)
    assert answer.units == row.cost == len(row.prompt)
    assert (delta.logprobs is None) == (logprobs is None)
    config = TransformerModel(id="tiny", source="file://tiny")
    assert config.cost_bound(body, llama.limits) >= row.cost
    assert len(llama.sampler.table) == 0


def test_a_prompt_as_long_as_the_context_can_be_scored(llama: Loaded) -> None:
    (row,) = prepared(llama, completion(prompt=[5] * 256, max_tokens=0, echo=True, logprobs=0))
    assert len(llama.run([row])[0].logprobs) == 256


def test_no_token_and_no_echo_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_tokens may be 0 only where echo is true"):
        completion(max_tokens=0)
