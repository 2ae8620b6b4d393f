"""`/v1/batches`, by the official client over a real socket, through the whole gateway but for the replicas."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch
from sqlalchemy import select

from services.gateway.batches import book
from services.gateway.batches.in_process import ask
from services.gateway.store.tables import usage
from services.gateway.tenants import Tenant
from shared.calls import Priority
from shared.errors import Overloaded
from shared.events import Failed
from shared.schemas.batches import ENDPOINTS, WINDOW_S
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import HELLO, MODEL, FakeDispatcher, chat, fail_with
from tests.unit.gateway.image_fakes import PAINTER, PNG
from tests.unit.gateway.list_fakes import APPRAISER, FLEET_WITH_LISTS, list_dispatcher
from tests.unit.gateway.tenants import Clients, make_lasting_gateway, two_tenants

CHAT = "/v1/chat/completions"
NOW = 1_700_000_000
PICTURE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: chat(),
    "/v1/completions": {"model": MODEL, "prompt": "a"},
    "/v1/responses": {"model": MODEL, "input": "a"},
    "/v1/images/generations": {"model": PAINTER, "prompt": "a"},
    "/v1/images/edits": {"model": PAINTER, "prompt": "a", "image": PICTURE},
    "/v1/images/variations": {"model": PAINTER, "image": PICTURE},
    "/v1/interpolations": {"model": PAINTER, "start": {"seed": 1}, "end": {"seed": 2}, "frames": 2},
    "/v1/audio/generations": {"model": APPRAISER, "prompt": "kick", "n": 2},
    "/v1/scores": {"model": APPRAISER, "input": [PICTURE, {"age": 40}]},
    "/v1/embeddings": {"model": APPRAISER, "input": "a"},
    "/v1/reconstructions": {"model": APPRAISER, "input": [PICTURE]},
    "/v1/records/generations": {"model": APPRAISER, "n": 3},
    "/v1/levels/generations": {"model": APPRAISER},
    "/v1/molecules/generations": {"model": APPRAISER, "n": 2},
    "/v1/music/generations": {"model": APPRAISER, "n": 2},
    "/v1/forecasts": {"model": APPRAISER, "input": {"values": [1.0, 2.0]}, "horizon": 2},
}


@pytest.fixture
def dispatcher() -> FakeDispatcher:
    return list_dispatcher()


@pytest.fixture
async def clients(tmp_path: Path, serve: Serve, dispatcher: FakeDispatcher) -> AsyncGenerator[Clients]:
    async with two_tenants(tmp_path, serve, dispatcher, fleet=FLEET_WITH_LISTS) as clients:
        yield clients


def line(custom_id: str, body: dict[str, Any], url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


async def begin(client: openai.AsyncOpenAI, lines: list[dict[str, Any]], **options: Any) -> Batch:
    data = "\n".join(json.dumps(each) for each in lines).encode()
    file = await client.files.create(file=("in.jsonl", data), purpose="batch")
    endpoint = options.pop("endpoint", lines[0]["url"])
    return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options)


async def ended(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    async with asyncio.timeout(20):
        while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
            await asyncio.sleep(0.01)
            batch = await client.batches.retrieve(batch.id)
    return batch


async def lines_of(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in (await client.files.content(file_id)).text.splitlines()]


async def used(clients: Clients) -> list[tuple[str, str, int, int, int]]:
    async with clients.gateway.state.store.read() as connection:
        rows = (await connection.execute(select(usage).order_by(usage.c.tenant, usage.c.model))).all()
    return [(row.tenant, row.model, row.requests, row.completion_tokens, row.images) for row in rows]


async def test_a_batch_of_chats_is_answered_charged_and_kept_to_its_tenant(clients: Clients) -> None:
    batch = await begin(clients.ours, [line(f"n{n}", chat()) for n in range(20)], metadata={"job": "nightly"})
    assert (batch.status, batch.endpoint, batch.metadata) == ("validating", CHAT, {"job": "nightly"})
    assert (batch.created_at, batch.expires_at) == (NOW, NOW + WINDOW_S)
    done = await ended(clients.ours, batch)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (20, 20, 0)
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (100, 80)
    assert await used(clients) == [("ours", MODEL, 20, 80, 0)]
    lines = await lines_of(clients.ours, done.output_file_id)
    assert [each["custom_id"] for each in lines] == [f"n{n}" for n in range(20)]
    assert lines[0]["response"]["body"]["choices"][0]["message"]["content"] == "".join(HELLO)
    assert lines[0]["response"]["request_id"].startswith("req_")
    with pytest.raises(openai.NotFoundError):
        await clients.theirs.batches.retrieve(batch.id)
    with pytest.raises(openai.NotFoundError):
        await clients.theirs.batches.cancel(batch.id)
    with pytest.raises(openai.NotFoundError):
        await clients.theirs.files.content(done.output_file_id or "")
    assert [each.id async for each in clients.theirs.batches.list()] == []


async def test_lines_run_at_batch_priority_as_their_tenant(clients: Clients, dispatcher: FakeDispatcher) -> None:
    await ended(clients.ours, await begin(clients.ours, [line("1", chat())]))
    ((_, call),) = dispatcher.calls
    assert (call.priority, call.tenant) == (Priority.BATCH, "ours")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_operation_that_generates_runs_in_batches(clients: Clients, endpoint: str) -> None:
    done = await ended(clients.ours, await begin(clients.ours, [line("1", BODIES[endpoint], endpoint)]))
    assert (done.status, done.error_file_id) == ("completed", None)
    (only,) = await lines_of(clients.ours, done.output_file_id)
    assert only["response"]["status_code"] == 200
    assert only["response"]["body"]
    pictures = {"/v1/interpolations": 2} | {path: 1 for path in BODIES if path.startswith("/v1/images/")}
    assert [row[4] for row in await used(clients)] == [pictures.get(endpoint, 0)]


async def test_a_request_that_is_refused_is_a_result_with_the_gateways_error(clients: Clients) -> None:
    lines = [line("good", chat()), line("bad", chat(temperature=9)), line("unknown", chat(model="gpt-9"))]
    done = await ended(clients.ours, await begin(clients.ours, lines))
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 2)
    failed = await lines_of(clients.ours, done.error_file_id)
    told = [(each["custom_id"], each["response"]["status_code"]) for each in failed]
    assert told == [("bad", 400), ("unknown", 404)]
    assert failed[0]["response"]["body"]["error"]["param"] == "temperature"
    assert [row[2] for row in await used(clients)] == [1], "what was refused costs nothing"


async def test_an_overloaded_model_is_asked_again(clients: Clients, dispatcher: FakeDispatcher) -> None:
    dispatcher.scripts = [fail_with(Failed.of(Overloaded("busy", retry_after=0.1)))]
    done = await ended(clients.ours, await begin(clients.ours, [line("1", chat())]))
    assert done.error_file_id is None
    assert len(dispatcher.calls) == 2
    assert [row[2] for row in await used(clients)] == [1]


async def test_a_bad_file_fails_the_batch_with_lines_and_codes(clients: Clients) -> None:
    lines = [line("1", chat()), line("1", chat(stream=True)), line("1", chat())]
    done = await ended(clients.ours, await begin(clients.ours, lines))
    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    assert [(each.line, each.code) for each in done.errors.data] == [
        (2, "invalid_value"),
        (3, "duplicate_custom_id"),
    ]


async def test_a_table_is_no_line_of_a_batch(clients: Clients) -> None:
    body = {**BODIES["/v1/records/generations"], "format": "csv"}
    done = await ended(clients.ours, await begin(clients.ours, [line("1", body, "/v1/records/generations")]))
    assert done.errors is not None
    assert done.errors.data is not None
    assert [(each.line, each.param) for each in done.errors.data] == [(1, "body.format")]


async def test_a_cancelled_batch_frees_what_it_ran(clients: Clients, dispatcher: FakeDispatcher) -> None:
    async def hang(_: object) -> AsyncGenerator[Any]:
        await asyncio.Event().wait()
        yield []

    dispatcher.default = hang
    batch = await begin(clients.ours, [line("1", chat()), line("2", chat())])
    await dispatcher.opened.wait()
    with pytest.raises(openai.ConflictError):
        await clients.ours.files.delete(batch.input_file_id)
    assert (await clients.ours.batches.cancel(batch.id)).status == "cancelling"
    done = await ended(clients.ours, batch)
    assert (done.status, dispatcher.open) == ("cancelled", 0)
    codes = [each["error"]["code"] for each in await lines_of(clients.ours, done.error_file_id)]
    assert codes == ["batch_cancelled", "batch_cancelled"]
    assert (await clients.ours.files.delete(batch.input_file_id)).deleted
    assert await used(clients) == []


async def test_batches_are_listed_newest_first_in_pages(clients: Clients) -> None:
    made = [(await begin(clients.ours, [line("1", chat())])).id for _ in range(3)]
    assert sorted([each.id async for each in clients.ours.batches.list(limit=2)]) == sorted(made)
    assert len((await clients.ours.batches.list(limit=2)).data) == 2


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"endpoint": "/tokenize"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds"),
    ],
)
async def test_a_batch_that_cannot_be_meant_is_refused_by_name(
    clients: Clients, changes: dict[str, Any], param: str
) -> None:
    file = await clients.ours.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    request = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **changes}
    with pytest.raises(openai.BadRequestError) as caught:
        await clients.ours.post("/batches", body=request, cast_to=object)
    assert caught.value.param == param


async def test_neither_anothers_file_nor_an_output_can_be_run(clients: Clients) -> None:
    done = await ended(clients.ours, await begin(clients.ours, [line("1", chat())]))
    theirs = await clients.theirs.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    for file_id in (theirs.id, done.output_file_id or ""):
        with pytest.raises(openai.BadRequestError) as caught:
            await clients.ours.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        assert caught.value.param == "input_file_id"


async def test_outputs_live_as_long_as_the_batch_asks(clients: Clients) -> None:
    options = {"output_expires_after": {"anchor": "created_at", "seconds": 7200}}
    done = await ended(clients.ours, await begin(clients.ours, [line("1", chat())], **options))
    assert (await clients.ours.files.retrieve(done.output_file_id or "")).expires_at == NOW + 7200


async def test_no_header_makes_a_request_a_line_of_a_batch(clients: Clients) -> None:
    await clients.ours.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hi"}],
        extra_headers={"castalia.caller": "theirs", "x-castalia-priority": "batch"},
    )
    await clients.gateway.state.usage.flush()
    assert [row[0] for row in await used(clients)] == ["ours"]


async def test_a_tenant_has_so_many_unfinished_batches_and_no_more(
    clients: Clients, dispatcher: FakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: object) -> AsyncGenerator[Any]:
        await asyncio.Event().wait()
        yield []

    monkeypatch.setattr(book, "MOST_UNFINISHED", 2)
    dispatcher.default = hang
    made = [await begin(clients.ours, [line("1", chat())]) for _ in range(2)]
    with pytest.raises(openai.RateLimitError) as caught:
        await begin(clients.ours, [line("1", chat())])
    assert "may have 2 batches" in caught.value.message
    await begin(clients.theirs, [line("1", chat())])
    await ended(clients.ours, await clients.ours.batches.cancel(made[0].id))
    await begin(clients.ours, [line("1", chat())])


async def test_nobody_waits_for_a_line_so_the_tenants_own_deadline_is_not_its(tmp_path: Path) -> None:
    gateway = make_lasting_gateway(tmp_path)
    tenant = Tenant("ours", longest_s=2.5)
    await ask(gateway.app, tenant, CHAT, json.dumps(chat()).encode())
    ((_, call),) = gateway.dispatcher.calls
    assert call.deadline_s > 100
