"""A service whose model vLLM runs: streams, cancellation, deadlines, metrics and failures as of every service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.engine.errors import EngineUnhealthy
from services.families.transformer.vllm.family import assemble
from services.model_service import ModelService
from shared.calls import Call
from shared.config.models import FleetConfig
from shared.events import Accepted, Event, Failed, Finished, TextDelta
from shared.schemas.text import ChatRequest
from tests.unit.replica.fakes import until
from tests.unit.transformer.vllm.fake import FakeVllm

Host = Callable[[FakeVllm], Any]


@pytest.fixture
def host(folders: Callable[..., Path]) -> Host:
    folder = folders("llama")

    @asynccontextmanager
    async def running(vllm: FakeVllm, **options: Any) -> AsyncIterator[ModelService]:
        model = {"id": "a", "source": f"file://{folder}", "engine": "vllm", "max_batch_size": 2, **options}
        entry = {"name": "chat", "family": "transformer", "models": [model], "resources": {"memory": "8GiB"}}
        service = ModelService(
            FleetConfig.model_validate({"services": [entry]}).hosted[0],
            replica="r",
            hold_s=10,
            resolve=lambda _: folder,
            loader=lambda _: lambda config, path: assemble(config, path, vllm.start),  # pyright: ignore
        )
        await service.start()
        try:
            yield service
        finally:
            await service.stop()

    return running


def call(**fields: Any) -> Call:
    changes = {key: fields.pop(key) for key in ("deadline_s", "tenant") if key in fields}
    messages = [{"role": "user", "content": "hi"}]
    body = ChatRequest.model_validate({"model": "a", "messages": messages, "max_tokens": 8, **fields})
    return Call(request_id="req_1", model="a", task="chat", body=body, flush_s=0.0, **changes)


async def events(service: ModelService, what: Call) -> list[Event]:
    return [event async for batch in service.stream(what) for _, event in batch]


async def texts_of(service: ModelService, what: Call) -> list[str]:
    texts = ["", ""]
    async for batch in service.stream(what):
        for row, event in batch:
            if isinstance(event, TextDelta):
                texts[row] += event.text
    return texts


async def test_a_chat_streams_to_the_end_of_each_choice(host: Host) -> None:
    async with host(FakeVllm()) as service:
        found = await events(service, call(n=2, seed=4))
        texts = [await texts_of(service, call(n=2, seed=4)) for _ in range(2)]
    assert found[0] == Accepted(2)
    assert [event for event in found if isinstance(event, Finished)] == [Finished("length", 22.0)] * 2
    assert texts[0] == texts[1]
    assert len({*texts[0]} - {""}) == 2, "each choice has its own"


async def test_one_row_more_than_vllm_is_given_waits_in_the_engines_queue(host: Host) -> None:
    vllm = FakeVllm(silent=True)
    async with host(vllm) as service:
        waiting = asyncio.create_task(events(service, call(n=3)))
        await until(lambda: len(vllm.rows) == 2)
        (model,) = service.report().models
        assert (model.running_rows, model.waiting_rows, len(vllm.rows)) == (2, 1, 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_reader_that_goes_has_its_row_aborted_and_its_place_is_free(host: Host) -> None:
    vllm = FakeVllm(waits=200)
    async with host(vllm) as service:
        async with aclosing(service.stream(call(max_tokens=200))) as stream:
            await anext(stream)
            await anext(stream)
            assert len(vllm.rows) == 1
        await until(lambda: not vllm.rows)
        (model,) = service.report().models
        assert model.finished["abort"] == 1
        assert vllm.aborted == ["0"]


async def test_a_deadline_ends_a_row_that_vllm_says_nothing_of(host: Host) -> None:
    vllm = FakeVllm(silent=True)
    async with host(vllm) as service:
        found = await events(service, call(deadline_s=0.2))
        assert isinstance(found[-1], Failed)
        assert found[-1].status == 504
        assert (vllm.rows, vllm.aborted) == ({}, ["0"])


async def test_a_vllm_that_dies_fails_its_rows_and_has_the_replica_replaced(host: Host) -> None:
    vllm = FakeVllm(waits=200)
    async with host(vllm) as service:
        async with aclosing(service.stream(call(max_tokens=200))) as stream:
            await anext(stream)
            vllm.is_dead = True
            rest = [event async for batch in stream for _, event in batch]
        assert isinstance(rest[-1], Failed)
        assert rest[-1].status == 500
        assert not service.report().healthy
        with pytest.raises(EngineUnhealthy, match="vLLM's processes are gone"):
            service.check_health()
        (refused,) = await events(service, call())
        assert isinstance(refused, Failed)
        assert refused.status == 503, "before the first byte another replica is tried"
