"""Transformers of every shape over HTTP, asked by the official client: sources, masks, vectors, dialogues, scores."""

from __future__ import annotations

import math
from typing import Any, cast

import openai
import pytest

from tests.integration.conftest import LocalFleet

SEQUENCE = ["chat", "completion", "tokenize", "detokenize"]


def plain(fleet: LocalFleet) -> openai.OpenAI:
    """A client that is not strict: its own types know neither base64 nor what has no log-probability yet."""
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, timeout=60)


def refused(call: Any, **fields: Any) -> dict[str, Any]:
    with pytest.raises(openai.BadRequestError) as caught:
        call(**fields)
    return cast("dict[str, Any]", caught.value.body)


def test_models_say_what_they_do_before_they_are_loaded(local_fleet: LocalFleet) -> None:
    with local_fleet.http() as client:
        cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
    assert cards["pair"]["tasks"] == cards["dialogue"]["tasks"] == SEQUENCE
    assert cards["masked"]["tasks"] == ["completion", "tokenize", "detokenize"]
    assert cards["embedder"]["tasks"] == ["embedding", "tokenize", "detokenize"]


def test_a_source_becomes_a_target_by_completion_and_by_chat_whole_and_streamed(local_fleet: LocalFleet) -> None:
    with plain(local_fleet) as client:
        whole = client.completions.create(model="pair", prompt="Good day", max_tokens=12)
        pieces = client.completions.create(model="pair", prompt="Good day", max_tokens=12, stream=True)
        streamed = "".join(piece.choices[0].text for piece in pieces)
        told: list[Any] = [{"role": "user", "content": "Good day"}]
        chat = client.chat.completions.create(model="pair", messages=told, max_tokens=12)
        other: list[Any] = [{"role": "system", "content": "summarize:"}, *told]
        summary = client.chat.completions.create(model="pair", messages=other, max_tokens=12)
    assert whole.choices[0].text == streamed == chat.choices[0].message.content != ""
    assert whole.usage == chat.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 12
    assert summary.choices[0].message.content != whole.choices[0].text


def test_masks_are_filled_with_alternatives_and_a_prompt_without_one_is_refused(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client:
        answer = client.completions.create(model="masked", prompt="The [MASK] of France", logprobs=3, seed=1)
        many = client.completions.create(model="masked", prompt="The [MASK]", n=5, temperature=1.5, seed=1)
        error = refused(client.completions.create, model="masked", prompt="The capital of France")
    (choice,) = answer.choices
    assert choice.text.endswith(" of France")
    assert choice.logprobs is not None
    assert choice.logprobs.text_offset is not None
    (at,) = choice.logprobs.text_offset
    assert choice.text[at:].startswith(cast("list[str]", choice.logprobs.tokens)[0].removeprefix("##"))
    assert len(cast("list[Any]", choice.logprobs.top_logprobs)[0]) == 3
    assert len({each.text for each in many.choices}) > 1
    assert (error["param"], "[MASK]" in error["message"]) == ("prompt", True)


def test_texts_and_token_ids_become_the_same_vectors_of_length_one(local_fleet: LocalFleet) -> None:
    texts = ["The spring", "gives water to whoever climbs up to it"]
    with plain(local_fleet) as client, local_fleet.http() as http:
        by_base64 = client.embeddings.create(model="embedder", input=texts)
        by_number = client.embeddings.create(model="embedder", input=texts, encoding_format="float")
        ids = http.post("/tokenize", json={"model": "embedder", "prompt": texts[0]}).json()["tokens"]
        by_ids = client.embeddings.create(model="embedder", input=ids)
        short = client.embeddings.create(model="embedder", input=texts[0], dimensions=8)
        error = refused(client.embeddings.create, model="embedder", input=["fine", "word " * 80])
    assert [each.embedding for each in by_base64.data] == [each.embedding for each in by_number.data]
    for item in (*by_base64.data, *short.data):
        assert math.hypot(*item.embedding) == pytest.approx(1, abs=1e-5)
    assert by_ids.data[0].embedding == pytest.approx(by_base64.data[0].embedding, abs=1e-5)
    assert by_ids.usage.prompt_tokens == len(ids)
    assert len(short.data[0].embedding) == 8
    assert (error["param"], error["code"]) == ("input[1]", "context_length_exceeded")
    assert "64 tokens" in error["message"]


def test_turns_without_a_template_are_answered(local_fleet: LocalFleet) -> None:
    turns: list[Any] = [{"role": "user", "content": "hi<|endoftext|>"}]
    with local_fleet.openai() as client:
        answer = client.chat.completions.create(model="dialogue", messages=turns, max_tokens=10, seed=1)
        error = refused(
            client.chat.completions.create, model="dialogue", messages=[{"role": "system", "content": "Obey."}, *turns]
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 1
    assert error["param"] == "messages[0].role"


def test_a_prompt_is_scored_without_a_token_of_the_models_own(local_fleet: LocalFleet) -> None:
    with plain(local_fleet) as client:
        answer = client.completions.create(
            model="llama", prompt=["The spring", "A model reads"], max_tokens=0, echo=True, logprobs=1
        )
        error = refused(client.completions.create, model="llama", prompt="The spring", max_tokens=0)
    assert [choice.text for choice in answer.choices] == ["The spring", "A model reads"]
    for choice in answer.choices:
        assert choice.logprobs is not None
        first, *rest = cast("list[float | None]", choice.logprobs.token_logprobs)
        assert first is None
        assert all(value is not None and value < 0 for value in rest)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0
    assert error["param"] == "max_tokens"


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        ("embedder", "/v1/completions", {"prompt": "a"}),
        ("masked", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("pair", "/v1/embeddings", {"input": "a"}),
    ],
)
def test_a_task_of_another_shape_is_refused(local_fleet: LocalFleet, model: str, path: str, body: Any) -> None:
    with local_fleet.http() as client:
        response = client.post(path, json={"model": model, **body})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_task")
