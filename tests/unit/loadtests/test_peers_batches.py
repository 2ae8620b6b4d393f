"""The model behind the peers: every answer has its own length, streamed or not, and the same text either way."""

from __future__ import annotations

import json

import pytest

from loadtests.peers.batches import Prompt, StaticModel
from loadtests.sse import TextStream
from tests.checkpoints import make_checkpoint
from tests.one_thread import one_thread

__all__ = ["one_thread"]
PROMPTS = [Prompt("What is the capital of France?", 9), Prompt("A model", 4), Prompt("def add(a, b):", 1)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StaticModel:
    return StaticModel(str(make_checkpoint("llama", tmp_path_factory.mktemp("peer"), seed=3)))


def texts(events: list[str]) -> str:
    payloads = [json.loads(line[5:]) for line in "".join(events).splitlines() if line.startswith("data: {")]
    return "".join(choice["text"] for payload in payloads for choice in payload["choices"])


def test_answers_of_a_batch_have_their_own_lengths(model: StaticModel) -> None:
    assert [text.tokens for text in model.generate(PROMPTS)] == [9, 4, 1]


def test_a_streamed_batch_tells_each_answer_as_it_grows_and_ends_it_at_its_own_length(model: StaticModel) -> None:
    steps = list(model.stream(PROMPTS))
    assert len(steps) == 9
    assert [step[1] != "" for step in steps][4:] == [False] * 5, "the second has ended after 4"
    for index, (prompt, answer) in enumerate(zip(PROMPTS, model.generate(PROMPTS), strict=True)):
        stream = TextStream(started=0.0)
        for step in steps:
            stream.feed(step[index].encode(), now=1.0)
        stream.end()
        assert stream.tokens == prompt.max_tokens
        whole = answer.text.rstrip("�")  # what a cut answer leaves of a letter
        assert texts([step[index] for step in steps])[: len(whole)] == whole


def test_a_reader_does_not_wait_for_ever_when_the_model_fails(
    model: StaticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(model.stream(PROMPTS))
