"""The audio operations: files as they are made, their events, whole answers, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, get_args

import httpx
import openai
import pytest

from services.gateway.answer_docs import AUDIO_TYPES
from services.gateway.audio_wire import MEDIA_TYPES
from shared.errors import Overloaded
from shared.events import Accepted, AudioFormat, Failed, Finished, RowEvent
from shared.schemas.audio import (
    AudioCompletedEvent,
    AudioDeltaEvent,
    AudioGenerationRequest,
    Sounds,
    SpeechDeltaEvent,
    SpeechDoneEvent,
    SpeechRequest,
)
from tests.unit.gateway.audio_fakes import HORN, PIECES, SECONDS, UNITS, WORDS, audio_gateway, piece
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import MODEL, Gateway, events_of, fail_with, play

SPEECH, GENERATIONS = "/v1/audio/speech", "/v1/audio/generations"
FILE = b"RIFF\x00\x00\xff\nend"
USAGE = {"input_tokens": WORDS, "output_tokens": 100, "total_tokens": 103}
FAILED = [RowEvent(0, Failed.of(Overloaded("too much", retry_after=1.0)))]


@pytest.fixture
def gateway() -> Gateway:
    return audio_gateway()


def spoken(**fields: Any) -> dict[str, Any]:
    return {"model": HORN, "input": "a b", "voice": "ann", **fields}


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": HORN, "prompt": "kick", **fields}


async def post(gateway: Gateway, path: str, body: dict[str, Any]) -> httpx.Response:
    async with gateway.client() as client:
        return await client.post(path, json=body)


async def cut(url: str, body: dict[str, Any]) -> bytes:
    """What arrives of speech until the connection breaks, which it must."""
    parts: list[bytes] = []

    async def read() -> None:
        async with httpx.AsyncClient() as client, client.stream("POST", url + SPEECH, json=body) as response:
            async for part in response.aiter_raw():
                parts.append(part)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    return b"".join(parts)


def test_every_format_has_a_documented_type() -> None:
    assert set(MEDIA_TYPES) == set(get_args(AudioFormat))
    assert set(MEDIA_TYPES.values()) == set(AUDIO_TYPES)


@pytest.mark.parametrize("format", [None, *get_args(AudioFormat)])
async def test_speech_is_the_file_itself(gateway: Gateway, format: AudioFormat | None) -> None:
    response = await post(gateway, SPEECH, spoken() if format is None else spoken(response_format=format))
    assert response.headers["content-type"] == MEDIA_TYPES[format or "mp3"]
    assert response.content == FILE
    ((service, call),) = gateway.dispatcher.calls
    assert (service, call.task, type(call.body)) == ("sound", "speech", SpeechRequest)
    assert call.flush_s is not None, "a file is sent as it is made"


async def test_speech_by_events_is_openais(gateway: Gateway) -> None:
    response = await post(gateway, SPEECH, spoken(stream_format="sse"))
    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, end, done = events_of(response.text)
    pieces = [base64.b64decode(SpeechDeltaEvent.model_validate(event).audio) for event in deltas]
    assert pieces == [b"RIFF\x00", b"\x00\xff\n", b"end"], "what a coder holds back is no event"
    assert SpeechDoneEvent.model_validate(end).usage.model_dump() == USAGE
    assert done == "[DONE]"


async def test_a_piece_is_sent_before_the_next_is_made(gateway: Gateway, serve: Serve) -> None:
    """And a client that wants no events has it as well."""
    more = asyncio.Event()
    body = SpeechRequest.model_validate(spoken())
    ends = [RowEvent(0, Finished("stop", UNITS))]
    gateway.dispatcher.scripts = [
        play([RowEvent(0, Accepted(1))], [piece(body, 0, 0)], more, [piece(body, 0, 3), *ends])
    ]
    url = await serve(gateway.app)
    async with httpx.AsyncClient() as client, client.stream("POST", url + SPEECH, json=spoken()) as response:
        parts = response.aiter_raw()
        assert await anext(parts) == b"RIFF\x00"
        more.set()
        assert b"".join([part async for part in parts]) == b"end"


async def test_a_file_that_fails_on_the_way_is_cut_and_holds_no_error(gateway: Gateway, serve: Serve) -> None:
    body = SpeechRequest.model_validate(spoken())
    gateway.dispatcher.scripts = [play([RowEvent(0, Accepted(1))], [piece(body, 0, 0)], FAILED)]
    assert await cut(await serve(gateway.app), spoken()) == b"RIFF\x00"


async def test_events_that_fail_on_the_way_say_so(gateway: Gateway, serve: Serve) -> None:
    body = SpeechRequest.model_validate(spoken())
    gateway.dispatcher.scripts = [play([RowEvent(0, Accepted(1))], [piece(body, 0, 0)], FAILED)]
    got = await cut(await serve(gateway.app), spoken(stream_format="sse"))
    assert json.loads(got.decode().split("data: ")[-1])["error"]["code"] == "server_is_overloaded"


@pytest.mark.parametrize("path", [SPEECH, GENERATIONS])
async def test_what_is_refused_before_the_first_byte_has_its_status(gateway: Gateway, path: str) -> None:
    failure = Failed(400, "invalid_request_error", "unknown_word", "cannot say 'x'", param="input")
    gateway.dispatcher.default = fail_with(failure)
    response = await post(gateway, path, spoken() if path == SPEECH else asked())
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"] == {
        "message": "cannot say 'x'",
        "type": "invalid_request_error",
        "param": "input",
        "code": "unknown_word",
    }


async def test_sounds_come_in_the_rows_order_with_what_makes_each_again(gateway: Gateway) -> None:
    response = await post(gateway, GENERATIONS, asked(n=3, seed=5, seconds=0.5, response_format="flac"))
    answer = Sounds.model_validate_json(response.content)
    assert [base64.b64decode(each.b64_json) for each in answer.data] == [
        b"RIFF" + bytes([row]) + b"\x00\xff\nend" for row in range(3)
    ]
    assert [(each.seed, each.seconds, each.sample_rate, each.format) for each in answer.data] == [
        (row, SECONDS, 8000, "flac") for row in range(3)
    ]
    assert (answer.created, answer.model) == (1_700_000_000, HORN)
    assert answer.usage.model_dump() == {"input_tokens": 3, "output_tokens": 300, "total_tokens": 303}
    ((_, call),) = gateway.dispatcher.calls
    assert (call.task, type(call.body), call.flush_s) == ("sound", AudioGenerationRequest, 0)


async def test_streamed_sounds_grow_side_by_side_and_each_says_when_it_is_complete(gateway: Gateway) -> None:
    response = await post(gateway, GENERATIONS, asked(n=2, stream=True))
    *events, done = events_of(response.text)
    deltas = [AudioDeltaEvent.model_validate(e) for e in events if e["type"] == "audio.generation.delta"]
    ends = [AudioCompletedEvent.model_validate(e) for e in events if e["type"] == "audio.generation.completed"]
    assert done == "[DONE]"
    assert [delta.index for delta in deltas] == [1, 0] * 3
    for row in range(2):
        file = b"".join(base64.b64decode(delta.audio) for delta in deltas if delta.index == row)
        assert file == b"RIFF" + bytes([row]) + b"\x00\xff\nend"
    assert [(end.index, end.seed, end.seconds, end.format) for end in ends] == [
        (1, 1, SECONDS, "wav"),
        (0, 0, SECONDS, "wav"),
    ]
    assert ends[0].usage.model_dump() == USAGE


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (SPEECH, spoken(input=""), "input"),
        (SPEECH, spoken(input="x" * 4097), "input"),
        (SPEECH, spoken(speed=5), "speed"),
        (SPEECH, spoken(response_format="ogg"), "response_format"),
        (SPEECH, spoken(stream_format="chunks"), "stream_format"),
        (SPEECH, spoken(temperature=0), "temperature"),
        (SPEECH, {"model": HORN, "input": "a"}, "voice"),
        (GENERATIONS, asked(n=65), "n"),
        (GENERATIONS, asked(seconds=0), "seconds"),
        (GENERATIONS, asked(voice="ann"), "voice"),
    ],
)
async def test_bad_fields_are_refused_by_name(gateway: Gateway, path: str, body: dict[str, Any], param: str) -> None:
    response = await post(gateway, path, body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not gateway.dispatcher.calls


@pytest.mark.parametrize("path", [SPEECH, GENERATIONS])
async def test_a_model_of_text_makes_no_sound(gateway: Gateway, path: str) -> None:
    body = {**(spoken() if path == SPEECH else asked()), "model": MODEL}
    response = await post(gateway, path, body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_task")


async def test_the_official_client_reads_speech_whole(client: openai.AsyncOpenAI) -> None:
    answer = await client.audio.speech.create(model=HORN, voice="ann", input="a b", response_format="wav")
    assert answer.content == FILE


async def test_the_official_client_reads_speech_as_it_is_made(client: openai.AsyncOpenAI) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model=HORN, voice="ann", input="a b", extra_body={"seed": 1}
    ) as response:
        assert await anext(response.iter_bytes()) == PIECES[0] + b"\x00"
