"""A tenant's own limits as its clients see them: 429s, headers, what the official client makes of them."""

from __future__ import annotations

import asyncio

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from starlette.types import Message, Receive, Scope, Send

from services.gateway.dispatcher import ReplicaLost
from services.gateway.record import as_caller
from services.gateway.tenants import ANYONE, Tenant
from shared.errors import Overloaded
from shared.events import Failed, Finished, RowEvent
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import ACCEPTED, MODEL, FakeDispatcher, chat, fail_with, make_gateway, play, text
from tests.unit.gateway.limit_fakes import limited_gateway

CHAT = "/v1/chat/completions"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
ONE_A_MINUTE = Tenant("alice", requests_per_minute=1, is_operator=True)


async def test_beyond_its_limit_a_tenant_gets_a_whole_429() -> None:
    gateway = limited_gateway(ONE_A_MINUTE)
    async with gateway.client() as client:
        served, refused = [await client.post(CHAT, json=chat()) for _ in range(2)]
    assert (served.status_code, refused.status_code) == (200, 429)
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "rate_limit_exceeded", None)
    assert error["message"].endswith("the next minute begins in 40 s.")
    for answer in (served, refused):  # 20 seconds into the minute
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert answer.headers["x-ratelimit-reset-requests"] == "40s"
    assert 40 <= int(refused.headers["retry-after"]) <= 60
    assert "x-should-retry" not in refused.headers
    assert len(gateway.dispatcher.calls) == 1


async def test_refusals_are_counted_by_tenant_and_limit() -> None:
    gateway = limited_gateway(ONE_A_MINUTE)
    async with gateway.client() as client:
        for _ in range(3):
            await client.post(CHAT, json=chat())
        metrics = (await client.get("/metrics")).text
    assert 'castalia_limit_refusals_total{gateway="",limit="requests",tenant="alice"} 2.0' in metrics


async def test_reading_costs_nothing() -> None:
    gateway = limited_gateway(ONE_A_MINUTE)
    async with gateway.client() as client:
        await client.post(CHAT, json=chat())
        answers = [await client.get(path) for path in ("/v1/models", f"/v1/models/{MODEL}", "/readyz", "/metrics")]
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(
    ("body", "status"), [({"model": "none"}, 404), ({"messages": []}, 400), ({"surprise": 1}, 400)]
)
async def test_what_is_refused_before_admission_costs_nothing(body: dict[str, object], status: int) -> None:
    gateway = limited_gateway(ONE_A_MINUTE)
    async with gateway.client() as client:
        for _ in range(2):
            assert (await client.post(CHAT, json={**chat(), **body})).status_code == status
        assert (await client.post(CHAT, json=chat())).status_code == 200


def units_left(headers: dict[str, str]) -> int:
    return int(headers["x-ratelimit-remaining-tokens"])


async def test_a_stream_has_the_headers_and_gives_back_what_it_did_not_use() -> None:
    units = 1_000_000
    gateway = limited_gateway(Tenant("alice", units_per_minute=units))
    async with gateway.client() as client:
        first = await client.post(CHAT, json=chat(stream=True))
        cost = units - units_left(dict(first.headers))
        second = await client.post(CHAT, json=chat(stream=True))
    assert first.headers["content-type"].startswith("text/event-stream")
    assert cost > 0
    assert units_left(dict(second.headers)) == units - 9 - cost  # the fake does 9 units of work


@pytest.mark.parametrize("status", [503, 400])
async def test_a_refusal_further_on_gives_all_units_back(status: int) -> None:
    units = 1_000_000
    failure = Failed(status, "some_error", None, "It is so.")
    gateway = limited_gateway(Tenant("alice", units_per_minute=units), FakeDispatcher(scripts=[fail_with(failure)]))
    async with gateway.client() as client:
        first, second = [await client.post(CHAT, json=chat()) for _ in range(2)]
    assert (first.status_code, second.status_code) == (status, 200)
    assert units_left(dict(first.headers)) == units_left(dict(second.headers)) < units


async def test_a_request_that_broke_is_charged_what_was_sent_of_it(serve: Serve) -> None:
    units = 1_000_000
    broken = play(ACCEPTED, text("one", "two"), ReplicaLost("killed"))
    gateway = limited_gateway(Tenant("alice", units_per_minute=units), FakeDispatcher(scripts=[broken]))
    async with httpx.AsyncClient(base_url=await serve(gateway.app)) as client:
        async with client.stream("POST", CHAT, json=chat(stream=True)) as first:
            with pytest.raises(httpx.RemoteProtocolError):
                await first.aread()
        second = await client.post(CHAT, json=chat())
    cost = units - units_left(dict(first.headers))
    sent = 5 + 2  # tokens of prompt and answer
    assert units_left(dict(second.headers)) == units - sent - cost


async def test_a_client_that_sends_one_request_after_the_other_needs_one_place() -> None:
    gateway = limited_gateway(Tenant("alice", concurrency=1))
    async with gateway.client() as client:
        statuses = [(await client.post(CHAT, json=chat(stream=i % 2 == 0))).status_code for i in range(6)]
    assert statuses == [200] * 6


async def test_a_place_is_free_before_the_last_byte_is_sent() -> None:
    """Else the client that has it might be refused its next request."""
    gateway = limited_gateway(Tenant("alice", concurrency=1))
    statuses: list[int] = []

    async def probe() -> None:
        async with gateway.client() as client:
            statuses.append((await client.post(CHAT, json=chat())).status_code)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def probing_send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await probe()
            await send(message)

        await gateway.app(scope, receive, probing_send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        for stream in (False, True):
            assert (await client.post(CHAT, json=chat(stream=stream))).status_code == 200
    assert statuses == [200, 200]


async def test_requests_in_progress_hold_their_places_and_failed_ones_free_them() -> None:
    going = asyncio.Event()
    slow = play(ACCEPTED, going, [*text("late"), RowEvent(0, Finished("stop", 1))])
    dispatcher = FakeDispatcher(scripts=[slow, slow, fail_with(Failed.of(Overloaded("busy")))])
    gateway = limited_gateway(Tenant("alice", concurrency=2), dispatcher)
    async with gateway.client() as client:
        held: list[asyncio.Task[httpx.Response]] = []
        for _ in range(2):
            dispatcher.opened.clear()
            held.append(asyncio.create_task(client.post(CHAT, json=chat())))
            await dispatcher.opened.wait()
        refused = await client.post(CHAT, json=chat())
        going.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        after = [(await client.post(CHAT, json=chat())).status_code for _ in range(3)]
    assert refused.status_code == 429
    assert refused.headers["retry-after"] in {"1", "2"}
    assert "2 requests in progress" in refused.json()["error"]["message"]
    assert after == [503, 200, 200]


async def test_a_client_that_goes_away_frees_its_place() -> None:
    dispatcher = FakeDispatcher(scripts=[play(ACCEPTED, asyncio.Event())])
    gateway = limited_gateway(Tenant("alice", concurrency=1), dispatcher)
    async with gateway.client() as client:
        gone = asyncio.create_task(client.post(CHAT, json=chat()))
        await dispatcher.opened.wait()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (await client.post(CHAT, json=chat())).status_code == 200


async def test_a_spent_quota_is_told_as_openai_tells_it() -> None:
    gateway = limited_gateway(Tenant("alice", units_per_month=0))
    async with gateway.client() as client:
        refused = await client.post(CHAT, json=chat())
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert "2023-12-01" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert 1 <= int(refused.headers["retry-after"]) <= 120


async def test_the_lines_of_a_batch_are_not_limited() -> None:
    tenant = Tenant("alice", requests_per_minute=0, concurrency=0)
    gateway = make_gateway()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        as_caller(scope, tenant)
        await gateway.app(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.post(CHAT, json=chat())
    assert answer.status_code == 200
    assert not any(name.startswith("x-ratelimit") for name in answer.headers)


async def test_a_gateway_without_keys_limits_nobody() -> None:
    gateway = limited_gateway(ANYONE)
    async with gateway.client() as client:
        answer = await client.post(CHAT, json=chat())
    assert not any(name.startswith("x-ratelimit") for name in answer.headers)


@pytest.mark.parametrize(
    "tenant",
    [Tenant("alice", units_per_month=0), Tenant("alice", units_per_minute=0)],
    ids=["the quota is spent", "it never fits"],
)
async def test_the_official_client_does_not_hammer_where_waiting_is_in_vain(tenant: Tenant, serve: Serve) -> None:
    gateway = limited_gateway(tenant)
    url = await serve(gateway.app)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=5) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert len(gateway.log_lines()) == 1
    assert refused.value.code == ("insufficient_quota" if tenant.units_per_month == 0 else "rate_limit_exceeded")


async def test_the_official_client_waits_as_long_as_it_is_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = limited_gateway(ONE_A_MINUTE)
    url = await serve(gateway.app)
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=2) as client:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        monkeypatch.setattr("openai._base_client.anyio.sleep", wait)
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    (waited,) = waits  # told to stop after its second try
    assert 40 <= waited <= 60
