"""One gateway as the remote server of another: everything that the first says is said again by the second."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import openai
import pytest

from services.gateway.fleet_dispatch import FleetDispatcher
from services.gateway.logs import make_log
from services.gateway.upstreams import UpstreamDispatcher
from shared.config.models import FleetConfig
from shared.errors import ContextTooLong
from shared.events import Failed
from tests.unit.gateway import fakes
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import ACCEPTED, HELLO, FakeDispatcher, Gateway, events_of, fail_with, make_gateway, play
from tests.unit.gateway.upstreams.remote import entry

TEXT = "".join(HELLO)


@dataclass
class Pair:
    far: Gateway
    near: Gateway
    upstreams: UpstreamDispatcher

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url="http://gateway/v1",
            api_key="none",
            max_retries=0,
            http_client=self.near.client(),
            _strict_response_validation=True,
        )


@pytest.fixture
async def pair(serve: Serve) -> AsyncGenerator[Pair]:
    """Two gateways; the second reaches the first by a real connection, and has a model of its own beside."""
    far = make_gateway()
    url = await serve(far.app)
    models = [{"id": "near", "remote_id": fakes.MODEL, "context_length": 64}]
    remote = entry(url=f"{url}/v1", secret_env=None, models=models, retries={"attempts": 1}, breaker={"failures": 2})
    own = fakes.FLEET.services[0].model_dump(mode="json", exclude_unset=True)
    route = {"name": "front", "targets": [{"model": "near"}], "fallbacks": [fakes.MODEL]}
    fleet = FleetConfig.model_validate({"services": [own, remote], "routes": [route]})
    upstreams = UpstreamDispatcher(make_log("ERROR"))
    dispatcher = FleetDispatcher(FakeDispatcher(), upstreams)
    dispatcher.configure(fleet)
    near = make_gateway(
        cast(Any, dispatcher), fleet=fleet, report_s=1e-6
    )  # reports are never too old to be asked again
    yield Pair(far, near, upstreams)
    await near.state.close()


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "near", "messages": [{"role": "user", "content": "hi"}], **fields}


async def test_a_model_of_another_server_answers_the_responses_api_by_chat(pair: Pair) -> None:
    async with pair.openai() as client:
        whole = await client.responses.create(model="near", input="hi", instructions="Be brief.")
        async with client.responses.stream(model="near", input="hi") as stream:
            streamed = await stream.get_final_response()
        pair.far.dispatcher.scripts.append(fail_with(Failed.of(ContextTooLong(limit=10, got=20, param="messages"))))
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="near", input="hi")
    assert whole.output_text == streamed.output_text == TEXT
    assert whole.usage is not None
    assert whole.usage.total_tokens == 9
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
    assert {call.task for _, call in pair.far.dispatcher.calls} == {"chat"}


async def test_the_official_client_gets_whole_and_streamed_answers_of_both_kinds(pair: Pair) -> None:
    async with pair.openai() as client:
        ask: Any = {"model": "near", "messages": [{"role": "user", "content": "hi"}], "n": 2}
        whole = await client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
        stream = await client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
        pieces = [piece async for piece in stream]
        done = await client.completions.create(model="near", prompt=["a", "b"], logprobs=2)
    assert [choice.message.content for choice in whole.choices] == [TEXT, TEXT]
    assert whole.choices[0].logprobs is not None
    assert [token.token for token in whole.choices[0].logprobs.content or ()] == list(HELLO)
    assert whole.model == pieces[0].model == done.model == "near"
    assert whole.usage == pieces[-1].usage
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (5, 8)
    for row in (0, 1):
        said = [c for piece in pieces for c in piece.choices if c.index == row]
        assert "".join(choice.delta.content or "" for choice in said) == TEXT
        assert said[-1].finish_reason == "stop"
    assert [choice.text for choice in done.choices] == [TEXT, TEXT]
    logprobs = done.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.text_offset == [0, 5, 9, 13]


async def test_a_remote_model_is_listed_as_such_and_readiness_does_not_hang_on_it(pair: Pair) -> None:
    async with pair.near.client() as client:
        cards = {card["id"]: card for card in (await client.get("/v1/models")).json()["data"]}
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    card = cards["near"]
    assert (card["family"], card["state"], card["revision"]) == ("upstream", "ready", "remote")
    assert (card["tasks"], card["limits"]) == (["chat", "completion"], {"context_length": 64.0})
    assert ready.json()["services"] == ["chat"]
    assert 'castalia_model_ready{family="upstream",model="near",replica="remote:",service="far"} 1.0' in metrics


async def test_units_and_tokens_are_metered_as_the_remote_server_counts_them(pair: Pair) -> None:
    async with pair.near.client() as client:
        await client.post("/v1/chat/completions", json=chat(n=2))
    (line,) = [line for line in pair.near.log_lines() if line["path"] == "/v1/chat/completions"]
    assert (line["model"], line["units"]) == ("near", 13.0)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (5, 8)


async def test_a_models_own_requests_do_not_go_to_the_remote_server(pair: Pair) -> None:
    async with pair.near.client() as client:
        answer = await client.post("/v1/chat/completions", json=fakes.chat())
    assert answer.status_code == 200
    assert pair.far.dispatcher.calls == []


async def test_a_task_that_the_remote_model_does_not_do_is_refused_here(pair: Pair) -> None:
    async with pair.near.client() as client:
        answer = await client.post("/tokenize", json={"model": "near", "prompt": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_task")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_of_the_remote_server_keeps_its_status_and_code(pair: Pair, stream: bool) -> None:
    pair.far.dispatcher.default = fail_with(Failed.of(ContextTooLong(limit=8, got=9, param="messages")))
    async with pair.near.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat(stream=stream))
    refused = answer.json()["error"]
    assert (answer.status_code, refused["code"], refused["param"]) == (400, "context_length_exceeded", "messages")
    assert refused["message"].endswith("This model's maximum context length is 8 tokens; got 9.")


async def test_a_failure_there_is_503_here_and_then_refused_at_once(pair: Pair) -> None:
    pair.far.dispatcher.default = play(ValueError("boom"))
    async with pair.near.client() as client:
        answers = [await client.post("/v1/chat/completions", json=chat()) for _ in range(3)]
        card = (await client.get("/v1/models/near")).json()
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"]["code"] for answer in answers} == {"upstream_failed"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 30 for answer in answers)
    assert len(pair.far.dispatcher.calls) == 2
    assert card["state"] == "failed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_route_falls_back_from_a_remote_server_to_a_model_here(pair: Pair, stream: bool) -> None:
    pair.far.dispatcher.default = play(ValueError("boom"))
    async with pair.near.client() as client:
        answers = [
            await client.post("/v1/chat/completions", json={**chat(stream=stream), "model": "front"}) for _ in "ab"
        ]
    for answer in answers:
        assert answer.status_code == 200
        first = events_of(answer.text)[0] if stream else answer.json()
        assert first["model"] == fakes.MODEL


async def test_a_stream_that_breaks_off_there_is_cut_here_without_done(pair: Pair, serve: Serve) -> None:
    pair.far.dispatcher.default = play(ACCEPTED, fakes.text("Hel"), ValueError("boom"))
    url = await serve(pair.near.app)
    received: list[bytes] = []

    async def read(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
            async for data in answer.aiter_raw():
                received.append(data)

    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await read(client)
    events = events_of(b"".join(received).decode())
    assert "[DONE]" not in events
    assert events[0]["choices"][0]["delta"]["content"] == "Hel"
    assert events[-1]["error"]["code"] == "upstream_failed"


async def test_a_client_that_leaves_frees_the_request_on_the_remote_server_at_once(pair: Pair, serve: Serve) -> None:
    never = asyncio.Event()
    pair.far.dispatcher.default = play(ACCEPTED, fakes.text("Hel"), never)
    url = await serve(pair.near.app)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        async with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response:
            line = await anext(response.aiter_lines())
            assert json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"] == "Hel"
        await pair.far.dispatcher.closed.wait()
    assert pair.far.dispatcher.open == 0


async def test_a_client_that_leaves_before_the_answer_frees_it_too(pair: Pair, serve: Serve) -> None:
    pair.far.dispatcher.default = play(asyncio.Event())
    url = await serve(pair.near.app)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        request = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        await pair.far.dispatcher.opened.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    await pair.far.dispatcher.closed.wait()
    assert pair.far.dispatcher.open == 0


async def test_answers_one_after_another_share_a_connection(pair: Pair) -> None:
    async with pair.near.client() as client:
        for stream in (False, True, True, False):
            (await client.post("/v1/chat/completions", json=chat(stream=stream))).raise_for_status()
    pool = pair.upstreams._client
    assert pool is not None
    transport = cast(Any, pool._transport)
    assert len(transport._pool.connections) == 1


async def test_closing_the_gateway_closes_its_connections(pair: Pair) -> None:
    async with pair.near.client() as client:
        await client.post("/v1/chat/completions", json=chat())
    pool = pair.upstreams._client
    assert pool is not None
    await pair.near.state.close()
    assert pool.is_closed
