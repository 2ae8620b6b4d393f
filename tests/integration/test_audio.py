"""Built-in models of sound, asked over HTTP: speech whole and as it is made, every format, sounds, seeds, refusals."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
import soundfile

from shared.events import AudioFormat
from tests.integration.conftest import BUILTIN, LocalFleet

CONFIGS = [model for service in BUILTIN for model in service.models if "audio" in model.MODALITIES]
SPEAKERS = [model.id for model in CONFIGS if "speech" in model.does]
INSTRUMENTS = [model.id for model in CONFIGS if "sound" in model.does]
VOICE, RATE = "allison", 8000
LOSSY_S = 0.3  # that mp3 adds: its coder's delay, and whole frames
EXAMPLE = Path(__file__).parents[2] / "docs/examples/speak.py"


@pytest.fixture(scope="module")
def client(local_fleet: LocalFleet) -> Iterator[openai.OpenAI]:
    with local_fleet.openai() as client:
        yield client.with_options(timeout=120)  # the first request wakes a model


@pytest.fixture(scope="module")
def http(local_fleet: LocalFleet) -> Iterator[httpx.Client]:
    with local_fleet.http() as client:
        client.timeout = httpx.Timeout(120)
        yield client


def length_s(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def sounds(http: httpx.Client, model: str, **body: Any) -> Any:
    answer = http.post("/v1/audio/generations", json={"model": model, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_both_kinds_of_models_of_sound_are_served() -> None:
    assert SPEAKERS
    assert INSTRUMENTS


@pytest.mark.parametrize("model", SPEAKERS)
def test_every_format_opens_with_the_length_of_the_same_speech(client: openai.OpenAI, model: str) -> None:
    def speak(kind: AudioFormat) -> bytes:
        options: Any = {"model": model, "voice": VOICE, "input": "a", "response_format": kind}
        return client.audio.speech.create(**options, extra_body={"seed": 5}).content

    kinds: tuple[AudioFormat, ...] = ("wav", "pcm", "flac", "mp3", "opus", "aac")
    with ThreadPoolExecutor(len(kinds)) as pool:
        said = dict(zip(kinds, pool.map(speak, kinds), strict=True))
    samples, rate = soundfile.read(io.BytesIO(said["wav"]))
    assert rate == RATE
    assert 0.3 < len(samples) / RATE < 1.5
    assert np.abs(samples).max() > 0.05, "it is silent"
    again, rate = soundfile.read(io.BytesIO(said["flac"]))
    assert (rate, np.array_equal(samples, again)) == (RATE, True)
    assert len(said["pcm"]) / 2 / 24000 == pytest.approx(len(samples) / RATE, abs=0.01)
    for format, slack in (("mp3", LOSSY_S), ("aac", LOSSY_S), ("opus", 0.05)):
        assert length_s(said[format]) == pytest.approx(len(samples) / RATE, abs=slack), format


@pytest.mark.parametrize("model", SPEAKERS)
def test_speech_comes_while_it_is_made(client: openai.OpenAI, model: str) -> None:
    """Most of the time passes after the first piece, and the pieces are what comes whole."""
    options: Any = {"model": model, "voice": VOICE, "input": "a 17", "response_format": "wav"}
    began, parts, first_s = time.monotonic(), [], 0.0
    with client.audio.speech.with_streaming_response.create(**options, extra_body={"seed": 2}) as response:
        for part in response.iter_bytes():
            first_s = first_s or time.monotonic() - began
            parts.append(part)
    assert len(parts) > 10
    assert first_s < 0.5 * (time.monotonic() - began)
    assert b"".join(parts) == client.audio.speech.create(**options, extra_body={"seed": 2}).content


@pytest.mark.parametrize("model", SPEAKERS)
def test_speech_by_events_is_the_same_file_with_its_usage(http: httpx.Client, model: str) -> None:
    body = {"model": model, "voice": VOICE, "input": "b 2", "response_format": "opus", "seed": 3}
    whole = http.post("/v1/audio/speech", json=body)
    assert whole.headers["content-type"] == "audio/ogg"
    streamed = http.post("/v1/audio/speech", json={**body, "stream_format": "sse"})
    lines = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line.startswith("data: ")]
    *events, done = lines
    assert done == "[DONE]"
    *deltas, end = map(json.loads, events)
    file = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert length_s(file) == pytest.approx(length_s(whole.content))
    assert end["type"] == "speech.audio.done"
    assert end["usage"]["input_tokens"] == 2
    assert end["usage"]["output_tokens"] > 100


@pytest.mark.parametrize("model", SPEAKERS)
def test_what_cannot_be_said_is_refused_with_what_can(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.speech.create(model=model, voice=VOICE, input="a gong 3")
    assert caught.value.param == "input"
    assert "'gong'" in caught.value.message
    assert " x y z 0 1 2 " in caught.value.message
    for options in ({"voice": "alloy"}, {"voice": VOICE, "speed": 2.0}, {"voice": VOICE, "instructions": "softly"}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.audio.speech.create(model=model, input="a", **options)
        assert caught.value.param in options


@pytest.mark.parametrize("model", INSTRUMENTS)
def test_sounds_differ_and_each_comes_again_by_its_seed(http: httpx.Client, model: str) -> None:
    answer = sounds(http, model, prompt="snare", n=3, seed=1, response_format="wav")
    files = [base64.b64decode(each["b64_json"]) for each in answer["data"]]
    assert len(set(files)) == 3
    for file, each in zip(files, answer["data"], strict=True):
        samples, rate = soundfile.read(io.BytesIO(file))
        assert (rate, len(samples) / rate) == (each["sample_rate"], pytest.approx(each["seconds"]))
        assert np.abs(samples).max() > 0.02
    (again,) = sounds(http, model, prompt="snare drum", seed=answer["data"][2]["seed"])["data"]
    assert again["b64_json"] == answer["data"][2]["b64_json"]


@pytest.mark.parametrize("model", INSTRUMENTS)
def test_sounds_are_bounded_and_grow_by_events(http: httpx.Client, model: str) -> None:
    body = {"model": model, "prompt": "cymbal", "n": 2, "seconds": 0.2, "stream": True, "response_format": "wav"}
    streamed = http.post("/v1/audio/generations", json=body)
    lines = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    for row in range(2):
        own = [event for event in events if event["index"] == row]
        *deltas, end = own
        assert {event["type"] for event in deltas} == {"audio.generation.delta"}
        assert end["type"] == "audio.generation.completed"
        assert 0 < end["seconds"] <= 0.2
        samples, rate = soundfile.read(io.BytesIO(b"".join(base64.b64decode(event["audio"]) for event in deltas)))
        assert len(samples) / rate == pytest.approx(end["seconds"])


@pytest.mark.parametrize("model", INSTRUMENTS)
def test_an_unknown_sound_is_refused_with_those_that_there_are(http: httpx.Client, model: str) -> None:
    answer = http.post("/v1/audio/generations", json={"model": model, "prompt": "gong"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "prompt"
    assert "kick, snare" in error["message"]


@pytest.mark.slow
def test_the_example_speaks_into_a_file_and_makes_a_bar_of_drums(local_fleet: LocalFleet, tmp_path: Path) -> None:
    """The script that the families' page names."""
    command = [sys.executable, EXAMPLE, "a 1", "--url", local_fleet.url, "--output", tmp_path]
    subprocess.run(command, check=True, timeout=120)
    assert length_s((tmp_path / "speech.mp3").read_bytes()) > 0.6
    assert length_s((tmp_path / "bar.wav").read_bytes()) == pytest.approx(2.0, abs=0.01)
