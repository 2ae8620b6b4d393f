"""A real fleet of docs/examples/speech.yaml, by the official client: whole texts, as they are made, and cut short."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest
import soundfile
import yaml

from loadtests.speech import FLEET
from loadtests.speech_lines import LINES
from services import fleet
from shared.events import AudioFormat
from tests.integration.conftest import LocalFleet, start

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

RATE = 22050
TEXT = "Good morning. The sun is up, and so are we!"
LOSSY_S = 0.3  # that mp3 and aac add: their coders' delay, and whole frames


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    running = start(folder, yaml.safe_load(Path(FLEET).read_text()), name="speaking")
    try:
        yield running
    finally:
        fleet.down("speaking", running.settings.home)


@pytest.fixture(scope="module")
def client(speaking: LocalFleet) -> Iterator[openai.OpenAI]:
    with speaking.openai() as client:
        yield client.with_options(timeout=120)  # the first request wakes the model


def ask(text: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "piper-joe", "voice": "joe", "input": text, "response_format": "wav", **fields}
    return {**body, "extra_body": {"seed": 1}}


def length_s(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def test_every_format_has_the_same_speech(client: openai.OpenAI) -> None:
    kinds: tuple[AudioFormat, ...] = ("wav", "pcm", "flac", "mp3", "opus", "aac")
    said = {kind: client.audio.speech.create(**ask(TEXT, response_format=kind)).content for kind in kinds}
    samples, rate = soundfile.read(io.BytesIO(said["wav"]))
    assert rate == RATE
    assert 2 < len(samples) / RATE < 6
    assert np.abs(samples).max() > 0.05, "it is silent"
    assert np.array_equal(samples, soundfile.read(io.BytesIO(said["flac"]))[0])
    assert len(said["pcm"]) / 2 / 24000 == pytest.approx(len(samples) / RATE, abs=0.01)
    for kind, slack in (("mp3", LOSSY_S), ("aac", LOSSY_S), ("opus", 0.05)):
        assert length_s(said[kind]) == pytest.approx(len(samples) / RATE, abs=slack), kind


def test_a_text_comes_while_it_is_made_and_is_the_same_again(client: openai.OpenAI) -> None:
    text = " ".join(LINES[:6])
    began, parts, first_s = time.monotonic(), [], 0.0
    with client.audio.speech.with_streaming_response.create(**ask(text)) as response:
        for part in response.iter_bytes():
            first_s = first_s or time.monotonic() - began
            parts.append(part)
    assert len(parts) > 10
    assert first_s < 0.5 * (time.monotonic() - began)
    assert b"".join(parts) == client.audio.speech.create(**ask(text)).content


def test_a_client_that_goes_away_frees_its_place_within_a_window(client: openai.OpenAI, speaking: LocalFleet) -> None:
    with client.audio.speech.with_streaming_response.create(**ask(" ".join(LINES))) as response:
        next(response.iter_bytes())
    time.sleep(4)  # a window's step, and the replica's next report
    assert speaking.metric("castalia_running_rows", model="piper-joe") == 0
    assert client.audio.speech.create(**ask("Short.")).content


def test_another_voice_is_a_refusal_that_names_the_one_there_is(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="has the voice 'joe' alone; got 'alloy'") as caught:
        client.audio.speech.create(**ask(TEXT, voice="alloy"))
    assert (caught.value.param, caught.value.code) == ("voice", "unknown_voice")
