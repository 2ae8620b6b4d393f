"""The operations that answer lists: whole, line by line and as CSV, and what they ask of a replica."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from services.gateway.items_wire import ItemStream
from services.gateway.routes_items import MOST_IN_A_MESSAGE
from services.gateway.tenants import Tenant
from shared.errors import Overloaded
from shared.events import Accepted, Failed, RowEvent
from shared.schemas.embeddings import Embedding, EmbeddingRequest, Embeddings
from shared.schemas.forecasts import Forecast, ForecastRequest, Forecasts
from shared.schemas.items import ItemsEnd
from shared.schemas.levels import Level, LevelGenerationRequest, Levels
from shared.schemas.molecules import COLUMNS, Molecule, MoleculeGenerationRequest, Molecules
from shared.schemas.music import MusicGenerationRequest, Tune, Tunes
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest, Reconstructions
from shared.schemas.records import RecordGenerationRequest, RecordRow, Records
from shared.schemas.scores import Score, ScoreRequest, Scores
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import ACCEPTED, Gateway, fail_with, play
from tests.unit.gateway.limit_fakes import OneTenant
from tests.unit.gateway.list_fakes import (
    APPRAISER,
    EMBEDDINGS,
    FORECASTS,
    LEVELS,
    MANY,
    MOLECULES,
    MUSIC,
    NOTES,
    PERSON,
    RECONSTRUCTIONS,
    RECORDS,
    SCORES,
    SERIES,
    UNITS,
    asked,
    done,
    list_gateway,
    post,
)

GIVEN = {"input": [PERSON, "data:image/png;base64,AAAA", "a text"]}
OPERATIONS = [
    (SCORES, GIVEN, "score", ScoreRequest, Score, Scores),
    (EMBEDDINGS, GIVEN, "embedding", EmbeddingRequest, Embedding, Embeddings),
    (RECONSTRUCTIONS, GIVEN, "reconstruction", ReconstructionRequest, Reconstruction, Reconstructions),
    (RECORDS, {"n": 3}, "record", RecordGenerationRequest, RecordRow, Records),
    (LEVELS, {"n": 3}, "level", LevelGenerationRequest, Level, Levels),
    (MOLECULES, {"n": 3}, "molecule", MoleculeGenerationRequest, Molecule, Molecules),
    (MUSIC, {"n": 3, "genre": "jig"}, "music", MusicGenerationRequest, Tune, Tunes),
    (FORECASTS, {"input": [SERIES] * 3, "horizon": 2}, "forecast", ForecastRequest, Forecast, Forecasts),
]
IDS = [task for _, _, task, *_ in OPERATIONS]
BULKY = {"reconstruction", "level", "molecule", "music"}


@pytest.fixture
def gateway() -> Gateway:
    return list_gateway()


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


# ---- whole answers ----


@pytest.mark.parametrize(("path", "fields", "task", "schema", "item", "answer"), OPERATIONS, ids=IDS)
async def test_a_whole_answer_keeps_the_order_of_what_was_given(
    gateway: Gateway, path: str, fields: dict[str, Any], task: str, schema: type, item: type, answer: Any
) -> None:
    """The replica's rows end in the opposite order."""
    response = await post(gateway, path, asked(**fields))
    assert response.status_code == 200, response.text
    found = answer.model_validate_json(response.content)
    assert [each.index for each in found.data] == [0, 1, 2]
    assert (found.object, found.created, found.model) == ("list", 1_700_000_000, APPRAISER)
    ((service, call),) = gateway.dispatcher.calls
    assert (service, call.model, call.task) == ("lists", APPRAISER, task)
    assert type(call.body) is schema
    assert (call.flush_s == 0) == (task in BULKY), "pictures in one message may exceed what a message holds"


async def test_each_item_is_that_of_its_row(gateway: Gateway) -> None:
    answer = Scores.model_validate_json((await post(gateway, SCORES, asked(input=[PERSON] * 4))).content)
    assert [score.value for score in answer.data] == [0, -1.5, -3, -4.5]


async def test_a_single_thing_needs_no_list(gateway: Gateway) -> None:
    for given in (PERSON, "a text"):
        answer = Scores.model_validate_json((await post(gateway, SCORES, asked(input=given))).content)
        assert [score.index for score in answer.data] == [0]


async def test_usage_counts_what_was_read_and_every_unit_of_work(gateway: Gateway) -> None:
    given = (await post(gateway, SCORES, asked(input=[PERSON] * 3))).json()["usage"]
    assert given == {"prompt_tokens": 3, "total_tokens": 3, "units": 3 * UNITS}
    drawn = (await post(gateway, RECORDS, asked(n=2))).json()["usage"]
    assert drawn == {"prompt_tokens": 0, "total_tokens": 0, "units": 2 * UNITS}
    first, second = gateway.log_lines()
    assert (first["prompt_tokens"], first["completion_tokens"], first["units"]) == (3, 0, 3 * UNITS)
    assert (second["prompt_tokens"], second["units"]) == (0, 2 * UNITS)


async def test_records_come_with_their_columns(gateway: Gateway) -> None:
    answer = Records.model_validate_json((await post(gateway, RECORDS, asked(n=3))).content)
    assert [(column.name, column.type) for column in answer.columns] == [("age", "integer"), ("note", "category")]
    assert [row.record["note"] for row in answer.data] == list(NOTES[:3])


# ---- lines of JSON ----


@pytest.mark.parametrize(("path", "fields", "task", "schema", "item", "answer"), OPERATIONS, ids=IDS)
async def test_a_stream_is_a_line_for_each_item_as_it_is_done_and_then_the_end(
    gateway: Gateway, path: str, fields: dict[str, Any], task: str, schema: type, item: type[BaseModel], answer: Any
) -> None:
    response = await post(gateway, path, asked(stream=True, **fields))
    assert response.headers["content-type"] == "application/x-ndjson"
    *items, end = lines_of(response)
    assert [item.model_validate(line).model_dump()["index"] for line in items] == [2, 1, 0]
    columns = end.pop("columns", None)
    assert (columns is not None) == (task == "record")
    whole = ItemsEnd.model_validate(end)
    assert (whole.object, whole.model, whole.usage.units) == ("list.end", APPRAISER, 3 * UNITS)


async def test_what_is_streamed_is_what_a_whole_answer_holds(gateway: Gateway) -> None:
    body = asked(input=[PERSON] * 5, metric="elbo")
    whole = (await post(gateway, SCORES, body)).json()
    *items, end = lines_of(await post(gateway, SCORES, {**body, "stream": True}))
    assert sorted(items, key=lambda each: each["index"]) == whole["data"]
    assert end["usage"] == whole["usage"]


async def test_the_first_line_goes_out_before_the_last_item_is_there(gateway: Gateway, serve: Serve) -> None:
    body = ScoreRequest.model_validate(asked(input=[PERSON] * 2))
    goes_on = asyncio.Event()
    gateway.dispatcher.default = play([RowEvent(0, Accepted(2)), *done(body, 1)], goes_on, done(body, 0))
    async with (
        httpx.AsyncClient(base_url=await serve(gateway.app)) as client,
        client.stream("POST", SCORES, json=asked(input=[PERSON] * 2, stream=True)) as response,
    ):
        lines = response.aiter_lines()
        assert json.loads(await anext(lines))["index"] == 1
        goes_on.set()
        assert [json.loads(line).get("index") async for line in lines] == [0, None]


async def test_a_stream_that_fails_midway_ends_with_an_error_and_without_its_end(
    gateway: Gateway, serve: Serve
) -> None:
    body = ScoreRequest.model_validate(asked(input=[PERSON] * 2))
    failure = [RowEvent(0, Failed.of(Overloaded("lost")))]
    gateway.dispatcher.default = play([RowEvent(0, Accepted(2))], done(body, 1), failure)
    received: list[bytes] = []

    async def read(response: httpx.Response) -> None:
        async for piece in response.aiter_bytes():
            received.append(piece)

    async with (
        httpx.AsyncClient(base_url=await serve(gateway.app)) as client,
        client.stream("POST", SCORES, json=asked(input=[PERSON] * 2, stream=True)) as response,
    ):
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await read(response)
    item, error = (json.loads(line) for line in b"".join(received).decode().splitlines())
    assert item["index"] == 1
    assert (error["error"]["code"], error["error"]["message"]) == ("server_is_overloaded", "lost")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_before_the_first_item_keeps_its_status(gateway: Gateway, stream: bool) -> None:
    gateway.dispatcher.default = fail_with(Failed(400, "invalid_request_error", "invalid_value", "No.", "input[1].age"))
    response = await post(gateway, SCORES, asked(input=[PERSON], stream=stream))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input[1].age")
    assert response.headers["content-type"] == "application/json"


async def test_one_failed_row_fails_a_whole_answer(gateway: Gateway) -> None:
    body = ScoreRequest.model_validate(asked(input=[PERSON] * 2))
    failure = [RowEvent(0, Failed.of(Overloaded("lost")))]
    gateway.dispatcher.default = play([RowEvent(0, Accepted(2)), *done(body, 1)], failure)
    assert (await post(gateway, SCORES, asked(input=[PERSON] * 2))).status_code == 503


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_its_rows(gateway: Gateway, stream: bool) -> None:
    gateway.dispatcher.default = play(ACCEPTED, asyncio.Event())
    task = asyncio.create_task(post(gateway, SCORES, asked(input=[PERSON], stream=stream)))
    await gateway.dispatcher.opened.wait()
    task.cancel()
    await gateway.dispatcher.closed.wait()
    assert gateway.dispatcher.open == 0


# ---- CSV ----


async def test_a_table_has_a_header_and_quotes_what_needs_it(gateway: Gateway) -> None:
    response = await post(gateway, RECORDS, asked(n=len(NOTES), format="csv"))
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.text.startswith('age,note\r\n0,plain\r\n1,"said ""so"""\r\n2,"one, two"\r\n3,"first\nsecond"\r\n')
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert [(row["age"], row["note"]) for row in rows] == [(str(i), note or "") for i, note in enumerate(NOTES)]


async def test_a_table_of_molecules_has_a_column_for_each_field(gateway: Gateway) -> None:
    response = await post(gateway, MOLECULES, asked(n=2, format="csv"))
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert [tuple(row) for row in rows] == [COLUMNS] * 2
    assert [(row["smiles"], row["valid"], row["qed"]) for row in rows] == [("C", "True", "0.5"), ("C(C", "False", "")]


async def test_the_usage_of_a_table_is_counted(gateway: Gateway) -> None:
    await post(gateway, RECORDS, asked(n=2, format="csv"))
    assert [line["units"] for line in gateway.log_lines()] == [2 * UNITS]


# ---- limits and usage ----


@pytest.mark.parametrize("stream", [True, False])
async def test_a_list_has_the_headers_of_its_tenants_limits_and_is_charged_its_rows(
    gateway: Gateway, stream: bool
) -> None:
    gateway.state.keys = OneTenant(Tenant("alice", requests_per_minute=1, units_per_minute=1000))
    body = asked(input=[PERSON] * 3, stream=stream)
    served, refused = [await post(gateway, SCORES, body) for _ in range(2)]
    assert (served.status_code, refused.status_code) == (200, 429)
    assert served.headers["x-ratelimit-limit-requests"] == "1"
    assert served.headers["x-ratelimit-remaining-requests"] == "0"
    assert int(served.headers["x-ratelimit-remaining-tokens"]) == 997, "a row costs at most 1 unit of this model"


async def test_more_rows_than_a_minutes_units_are_refused(gateway: Gateway) -> None:
    gateway.state.keys = OneTenant(Tenant("alice", units_per_minute=5))
    response = await post(gateway, SCORES, asked(input=[PERSON] * 6))
    assert response.status_code == 429
    assert gateway.dispatcher.calls == []


@pytest.mark.parametrize("stream", [True, False])
async def test_finished_images_count_in_the_usage_of_their_tenant(gateway: Gateway, stream: bool) -> None:
    drawn = {"model": "painter", "prompt": "x", "n": 3, "stream": stream}
    previews = {"partial_images": 2} if stream else {}
    frames = {"model": "painter", "start": {"seed": 1}, "end": {"seed": 2}, "frames": 4}
    async with gateway.client() as client:
        await gateway.state.start()
        await client.post("/v1/images/generations", json=drawn | previews)
        await client.post("/v1/interpolations", json=frames)
        await client.post(SCORES, json=asked(input=[PERSON]))
        usage = (await client.get("/v1/usage", params={"group_by": "model"})).json()
        await gateway.state.close()
    assert {entry["model"]: entry["images"] for entry in usage["data"]} == {"painter": 7, APPRAISER: 0}


# ---- ten thousand ----


@pytest.mark.parametrize("stream", [True, False])
async def test_ten_thousand_items_are_answered_in_order(gateway: Gateway, stream: bool) -> None:
    response = await post(gateway, SCORES, asked(input=["x"] * MANY, stream=stream))
    assert response.status_code == 200
    if stream:
        *items, end = lines_of(response)
        assert [each["index"] for each in items] == list(reversed(range(MANY)))
        assert end["usage"]["units"] == MANY * UNITS
    else:
        assert [each["index"] for each in response.json()["data"]] == list(range(MANY))


async def test_many_items_come_in_several_messages(gateway: Gateway) -> None:
    await post(gateway, SCORES, asked(input=["x"] * (MOST_IN_A_MESSAGE + 1)))
    ((_, call),) = gateway.dispatcher.calls
    assert call.flush_s == 0


async def test_large_batches_of_items_are_written_off_the_event_loop(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_on: dict[int, int] = {}
    encode = ItemStream.encode

    def noted(self: ItemStream, batch: Sequence[RowEvent]) -> bytes:
        written_on[len(batch)] = threading.get_ident()
        return encode(self, batch)

    monkeypatch.setattr(ItemStream, "encode", noted)
    body = ScoreRequest.model_validate(asked(input=["x"]))
    many = [event for row in range(1, MANY) for event in done(body, row)]
    gateway.dispatcher.default = play([RowEvent(0, Accepted(MANY))], many, done(body, 0))
    response = await post(gateway, SCORES, asked(input=["x"], stream=True))
    assert len(lines_of(response)) == MANY + 1
    assert written_on.pop(len(many)) != threading.get_ident()
    assert set(written_on.values()) == {threading.get_ident()}
