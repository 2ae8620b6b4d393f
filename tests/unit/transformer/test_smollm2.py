"""The embedded default model, real weights: greedy answers equal `generate`, and they make sense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from loadtests.bench_models import SMOLLM2
from services.nn.text.params import GenerateParams
from services.sources import resolve
from shared.config.settings import Settings
from shared.schemas.text import ChatRequest
from tests.unit.transformer.driver import Loaded, greedy_tokens, load_folder

QUESTIONS = [
    "What is the capital of France?",
    "Name three colours.",
    "Hi!",
    "Write one sentence about the sea. " * 6,
    "Grüße! Was ist 2+2? 🙂",
    "List the planets.",
    "Who wrote Hamlet?",
    "Explain photosynthesis to a child in two sentences.",
]
END_OF_TURN = 2


@pytest.fixture(scope="module")
def smollm2_folder() -> Path:
    """The checkpoint in the sources' cache, fetched if need be."""
    return resolve(SMOLLM2, Settings().home)


@pytest.fixture(scope="module")
def smollm2(smollm2_folder: Path) -> Loaded:
    return load_folder(smollm2_folder, cache_memory=512 * 2**20, prefill_tokens=64)


def ask(loaded: Loaded, question: str, new: int) -> ChatRequest:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": question}]}
    return ChatRequest.model_validate({**body, "max_tokens": new, "temperature": 0.0})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_greedy_chats_equal_generate(smollm2: Loaded, reference: Callable[[Path], PreTrainedModel]) -> None:
    requests = [ask(smollm2, question, 8 + 4 * i) for i, question in enumerate(QUESTIONS * 2)]
    rows = [row for request in requests for row in smollm2.tasks["chat"].prepare(request)]
    model = reference(smollm2.folder)
    for answer, row in zip(smollm2.run(rows, stagger=2), rows, strict=True):
        assert answer.tokens == greedy_tokens(model, row.prompt, row.max_new_tokens, eos=END_OF_TURN)


@pytest.mark.slow
def test_it_knows_the_capital_of_france(smollm2: Loaded) -> None:
    (row,) = smollm2.tasks["chat"].prepare(ask(smollm2, QUESTIONS[0], 24))
    assert "Paris" in smollm2.run([row])[0].text


@pytest.mark.slow
def test_a_system_prompt_of_five_hundred_tokens_is_read_once(smollm2: Loaded) -> None:
    def row(question: str, tenant: str = "ann") -> GenerateParams:
        messages = [
            {"role": "system", "content": "Tickets may be changed. " * 90},
            {"role": "user", "content": question},
        ]
        request = {"model": "smollm2", "messages": messages, "max_tokens": 12, "temperature": 0.8, "seed": 7}
        return smollm2.tasks["chat"].prepare(ChatRequest.model_validate(request), tenant)[0]

    rows = [row(QUESTIONS[0]), row(QUESTIONS[1]), row(QUESTIONS[0]), row(QUESTIONS[0], "bob")]
    shared = next(i for i, (a, b) in enumerate(zip(rows[0].prompt, rows[1].prompt, strict=False)) if a != b)
    assert 500 <= shared < 600
    first, other, again, foreign = (smollm2.run([each])[0] for each in rows)
    found = shared // 64 * 64
    assert [answer.cached for answer in (first, other, again, foreign)] == [0, found, found, 0]
    assert [answer.units for answer in (first, other)] == [
        len(rows[0].prompt) + len(first.tokens),
        len(rows[1].prompt) - found + len(other.tokens),
    ]
    assert first.tokens == again.tokens == foreign.tokens
