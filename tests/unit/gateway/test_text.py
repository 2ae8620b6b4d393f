"""The text endpoints' bodies, whole and streamed."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest

from services.gateway.carrier import Errand
from services.gateway.chat_wire import ChatStream, Envelope
from services.gateway.state import Tempo
from services.gateway.text_wire import TokenCounts
from shared.calls import Priority
from shared.events import Accepted, Finished, RowEvent, TextDelta, TokenLogprob
from shared.schemas.text_results import ChatCompletion, ChatCompletionChunk, Completion, Detokenized, Tokens
from tests.unit.gateway.fakes import (
    ACCEPTED,
    HELLO,
    MODEL,
    STOPPED,
    Clock,
    FakeDispatcher,
    Gateway,
    chat,
    events_of,
    logprob,
    make_gateway,
    play,
    report,
)

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
WHOLE = "".join(HELLO)


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


async def test_a_plain_chat_answer_is_complete(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(n=2, seed=1))
    answer = ChatCompletion.model_validate_json(response.content)
    assert [choice.message.content for choice in answer.choices] == [WHOLE, WHOLE]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.id.startswith("chatcmpl-")
    assert answer.created == 1_700_000_000
    assert answer.usage.model_dump() == usage(5, 8)
    assert response.json()["choices"][0]["logprobs"] is None
    assert response.json()["choices"][0]["message"]["refusal"] is None


async def test_a_streamed_chat_answer_joins_to_the_whole(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(n=2, stream=True))
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done = events_of(response.text)
    chunks = [ChatCompletionChunk.model_validate(event) for event in events]
    assert done == "[DONE]"
    for row in (0, 1):
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == row]
        assert "".join(choice.delta.content or "" for choice in mine) == WHOLE
        assert [choice.delta.role for choice in mine] == ["assistant", None, None, None, None]
        assert [choice.finish_reason for choice in mine] == [None, None, None, None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all("usage" not in event for event in events)


async def test_each_piece_of_text_is_one_chunk_sent_as_it_comes(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(stream=True))
    texts = [event["choices"][0]["delta"].get("content") for event in events_of(response.text)[:-1]]
    assert texts == [*HELLO, None]


async def test_usage_comes_last_when_asked_for_and_is_null_before(gateway: Gateway) -> None:
    async with gateway.client() as client:
        body = chat(stream=True, stream_options={"include_usage": True})
        *events, last, done = events_of((await client.post(CHAT, json=body)).text)
    assert done == "[DONE]"
    assert all(event["usage"] is None for event in events)
    assert last["choices"] == []
    assert last["usage"] == usage(5, 4)


def test_cached_tokens_count_once_a_prompt_as_its_first_row_found_them() -> None:
    counts = TokenCounts(choices=2)
    for row, cached in enumerate((64, 128, 0, 64)):
        counts.note(row, TextDelta("a", 200, 1, cached_tokens=cached))
    counts.note(0, TextDelta("b", 200, 2, cached_tokens=64))
    assert counts.usage() == usage(400, 5, cached=64)


@pytest.mark.parametrize("stream", [True, False])
async def test_chat_logprobs_have_openais_shape(gateway: Gateway, stream: bool) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(logprobs=True, top_logprobs=2, stream=stream))
    first = events_of(response.text)[0] if stream else response.json()
    token = first["choices"][0]["logprobs"]["content"][0]
    assert token["token"] == "Hello"
    assert token["bytes"] == list(b"Hello")
    assert token["logprob"] == -0.5
    assert [top["token"] for top in token["top_logprobs"]] == ["x", "y"]


async def test_a_row_without_text_still_gives_its_role_and_reason() -> None:
    wire = ChatStream(Envelope("id", 1, "m"), TokenCounts(1), include_usage=False)
    (chunk,) = events_of(wire.encode([RowEvent(0, Finished("length", 1))]).decode())
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "refusal": None, "content": ""}
    assert chunk["choices"][0]["finish_reason"] == "length"


async def test_text_that_looks_like_an_event_cannot_break_the_stream() -> None:
    wire = ChatStream(Envelope("id", 1, 'm"\n\ndata: x'), TokenCounts(1), include_usage=False)
    evil = '"}\n\ndata: [DONE]\n\n\x00\u2028\ud800'
    data = wire.encode([RowEvent(0, TextDelta(evil, 1, 1))])
    assert data.count(b"\n") == 2
    assert events_of(data.decode())[0]["choices"][0]["delta"]["content"] == evil


@pytest.mark.parametrize("prompt", ["hi", ["a", "b"], [1, 2], [[1], [2, 3]]])
async def test_a_plain_completion_answers_every_prompt(gateway: Gateway, prompt: object) -> None:
    async with gateway.client() as client:
        response = await client.post(COMPLETIONS, json={"model": MODEL, "prompt": prompt, "n": 2})
    answer = Completion.model_validate_json(response.content)
    prompts = 2 if prompt in (["a", "b"], [[1], [2, 3]]) else 1
    assert [choice.index for choice in answer.choices] == list(range(2 * prompts))
    assert {choice.text for choice in answer.choices} == {WHOLE}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 5 * prompts  # each prompt once, whatever n is
    assert answer.usage.completion_tokens == 4 * 2 * prompts


async def test_a_streamed_completion_joins_to_the_whole(gateway: Gateway) -> None:
    body = {"model": MODEL, "prompt": "hi", "stream": True, "stream_options": {"include_usage": True}}
    async with gateway.client() as client:
        *events, last, done = events_of((await client.post(COMPLETIONS, json=body)).text)
    chunks = [Completion.model_validate(event) for event in events]
    assert "".join(chunk.choices[0].text for chunk in chunks) == WHOLE
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, None, "stop"]
    assert last["usage"]["total_tokens"] == 9
    assert done == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
async def test_completion_logprobs_count_offsets_over_the_whole_text(gateway: Gateway, stream: bool) -> None:
    body = {"model": MODEL, "prompt": "hi", "logprobs": 2, "stream": stream}
    async with gateway.client() as client:
        response = await client.post(COMPLETIONS, json=body)
    answers = events_of(response.text)[:-1] if stream else [response.json()]
    parts = [answer["choices"][0]["logprobs"] for answer in answers if answer["choices"][0]["logprobs"]]
    assert [token for part in parts for token in part["tokens"]] == list(HELLO)
    assert [offset for part in parts for offset in part["text_offset"]] == [0, 5, 9, 13]
    assert parts[0]["top_logprobs"][0] == {"x": -1.5, "y": -1.5}
    assert parts[0]["token_logprobs"][0] == -0.5


@pytest.mark.parametrize("stream", [True, False])
async def test_completion_offsets_are_those_of_the_text_and_not_sums_of_token_lengths(stream: bool) -> None:
    tokens = [TokenLogprob("<s>", 1, (), -0.1), *(TokenLogprob("\ufffd", 3, (b,), -0.1) for b in "é".encode())]
    events = [TextDelta("é", 1, 2, tuple(tokens)), TextDelta("b", 1, 3, (logprob("b", offset=1),))]
    gateway = make_gateway(FakeDispatcher(play(ACCEPTED, [RowEvent(0, e) for e in events], STOPPED)))
    async with gateway.client() as client:
        body = {"model": MODEL, "prompt": "", "logprobs": 0, "stream": stream}
        response = await client.post(COMPLETIONS, json=body)
    answers = events_of(response.text)[:-1] if stream else [response.json()]
    parts = [answer["choices"][0]["logprobs"] for answer in answers if answer["choices"][0]["logprobs"]]
    assert [offset for part in parts for offset in part["text_offset"]] == [0, 0, 0, 1]


async def test_a_token_that_follows_nothing_has_null_and_minus_infinity_stays_json() -> None:
    tokens = (logprob("a", math.nan), TokenLogprob("b", 1, (98,), -math.inf))
    events = [RowEvent(0, TextDelta("ab", 1, 2, tokens)), RowEvent(0, Finished("stop", 1))]
    gateway = make_gateway(FakeDispatcher(play([*ACCEPTED, *events])))
    async with gateway.client() as client:
        response = await client.post(COMPLETIONS, json={"model": MODEL, "prompt": "", "echo": True, "logprobs": 1})
    assert json.loads(response.text)["choices"][0]["logprobs"]["token_logprobs"] == [None, -9999.0]
    assert json.loads(response.text)["choices"][0]["logprobs"]["top_logprobs"] == [None, {}]


async def test_tokenize_gives_ids_and_strings(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post("/tokenize", json={"model": MODEL, "prompt": "a☃"})
    answer = Tokens.model_validate_json(response.content)
    assert (answer.tokens, answer.token_strings, answer.count) == ([1, 2], ["a", "☃"], 2)


async def test_detokenize_gives_the_text(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post("/detokenize", json={"model": MODEL, "tokens": [4, 5]})
    assert Detokenized.model_validate_json(response.content).prompt == "4-5"


async def test_the_call_carries_what_the_request_asked_for() -> None:
    gateway = make_gateway(tempo=Tempo(clock=Clock()))
    headers = {"x-castalia-priority": "batch", "x-castalia-deadline-ms": "2500", "x-stainless-read-timeout": "60"}
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(stream=True), headers=headers)
    ((service, call),) = gateway.dispatcher.calls
    assert (service, call.model, call.task, call.priority) == ("chat", MODEL, "chat", Priority.BATCH)
    assert call.request_id == response.headers["x-request-id"]
    assert call.flush_s == 0.04
    assert call.tenant == "default"


@pytest.mark.parametrize(
    ("headers", "stream", "deadline_s"),
    [
        ({}, False, 7.0),
        ({"x-stainless-read-timeout": "600"}, False, 7.0),
        ({"x-stainless-read-timeout": "4.5"}, False, 4.5),
        ({"x-castalia-deadline-ms": "2500", "x-stainless-read-timeout": "4.5"}, False, 2.5),
        ({"x-castalia-deadline-ms": "2500", "x-stainless-read-timeout": "1"}, True, 2.5),  # it bounds silence alone
    ],
)
async def test_the_least_deadline_holds(headers: dict[str, str], stream: bool, deadline_s: float) -> None:
    dispatcher = FakeDispatcher()
    gateway = make_gateway(dispatcher, tempo=Tempo(clock=Clock()), timeout_s=7)
    seen: list[Errand] = []

    async def carry(errand: Errand, _: object, **options: object) -> None:
        seen.append(errand)

    gateway.state.carrier = SimpleNamespace(carry=carry)  # type: ignore[assignment]
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(stream=stream), headers=headers)
    assert seen[0].deadline_s == seen[0].targets[0].call.deadline_s == deadline_s


async def test_a_plain_call_to_a_loaded_model_comes_in_one_message() -> None:
    gateway = make_gateway(FakeDispatcher(known={"chat": [report()]}), tempo=Tempo(clock=Clock()))
    await gateway.state.board.fresh(["chat"])
    async with gateway.client() as client:
        await client.post(CHAT, json=chat())
    assert gateway.dispatcher.calls[0][1].flush_s is None


async def test_accepted_alone_is_no_chunk() -> None:
    wire = ChatStream(Envelope("id", 1, "m"), TokenCounts(1), include_usage=False)
    assert wire.encode([RowEvent(0, Accepted(1))]) == b""
