"""The built-in model of tunes, asked over HTTP; its files are read by mido and music21, which had no part in them."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import mido
import pytest
from music21 import converter

from tests.integration.conftest import BUILTIN, LocalFleet

(MODEL,) = [model.id for service in BUILTIN for model in service.models if "music" in model.does]
PATH = "/v1/music/generations"
ASKED = (
    ("reel", "D", "4/4", 16, "D", 2),
    ("jig", "G", "6/8", 24, "G", 1),
    ("jig", "Em", "9/8", 8, "Em", 1),
    ("hornpipe", "Bb", "4/4", 32, "Bb", -2),
    ("strathspey", "Ador", "4/4", 12, "G", 1),
)


@pytest.fixture(scope="module")
def http(local_fleet: LocalFleet) -> Iterator[httpx.Client]:
    with local_fleet.http() as client:
        client.timeout = httpx.Timeout(120)  # the first request wakes the model
        yield client


def tunes(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    answer = client.post(PATH, json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.mark.parametrize(("genre", "key", "meter", "bars", "midi_key", "sharps"), ASKED)
def test_every_genre_comes_in_the_key_metre_and_bars_asked_for(
    http: httpx.Client, genre: str, key: str, meter: str, bars: int, midi_key: str, sharps: int
) -> None:
    asked = {"genre": genre, "key": key, "meter": meter, "bars": bars}
    for tune in tunes(http, **asked, n=3, seed=1):
        assert {name: tune[name] for name in asked} == asked
        assert tune["valid"]
        file = mido.MidiFile(file=io.BytesIO(base64.b64decode(tune["midi"])))
        meta = {message.type: message for track in file.tracks for message in track if message.is_meta}
        metre = meta["time_signature"]
        assert (f"{metre.numerator}/{metre.denominator}", meta["key_signature"].key) == (meter, midi_key)
        bar = file.ticks_per_beat * 4 * metre.numerator // metre.denominator
        assert sum(message.time for message in file.tracks[0]) == bars * bar
        assert file.length == pytest.approx(tune["seconds"], abs=0.01)

        score = converter.parseData(tune["abc"], format="abc")
        measures = list(score.recurse().getElementsByClass("Measure"))
        quarters = 4 * metre.numerator / metre.denominator
        assert [measure.duration.quarterLength for measure in measures] == [quarters] * bars
        (signature,) = score.recurse().getElementsByClass("KeySignature")
        assert signature.sharps == sharps
        struck = [message.note for message in file.tracks[0] if message.type == "note_on"]
        assert struck == [note.pitch.midi for note in score.recurse().notes]
        assert len(set(struck)) > 4, "a melody"


def test_a_seed_draws_a_tune_again_and_others_differ(http: httpx.Client) -> None:
    whole = tunes(http, n=6, seed=5, formats=["abc"])
    assert len({tune["abc"].split("K:")[1] for tune in whole}) == 6
    assert tunes(http, n=6, seed=5, formats=["abc"]) == whole
    (alone,) = tunes(http, seed=whole[4]["seed"], formats=["abc"])
    assert alone == whole[4] | {"index": 0}


def test_a_tune_goes_on_from_an_opening(http: httpx.Client) -> None:
    opening = "d2fd Adfd | B2"
    for tune in tunes(http, genre="reel", key="D", prompt=opening, n=4, seed=2):
        assert tune["abc"].split("K:D\n")[1].startswith(opening)
        assert (tune["bars"], tune["valid"]) == (16, True)


def test_sound_and_musicxml_hold_the_whole_tune(http: httpx.Client) -> None:
    (tune,) = tunes(http, genre="jig", key="G", bars=8, formats=["wav", "musicxml"], seed=3)
    with wave.open(io.BytesIO(base64.b64decode(tune["wav"]))) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(tune["seconds"], abs=0.5)
    score = converter.parseData(tune["musicxml"], format="musicxml")
    assert len(list(score.recurse().getElementsByClass("Measure"))) == 8
    assert (tune["abc"], tune["midi"]) == (None, None)


def test_lines_stream_as_tunes_are_done(http: httpx.Client) -> None:
    body: dict[str, Any] = {"genre": "jig", "bars": 8, "n": 5, "seed": 4}
    with http.stream("POST", PATH, json={"model": MODEL, **body, "stream": True}) as answer:
        *lines, end = [json.loads(line) for line in answer.iter_lines()]
    assert sorted(lines, key=lambda each: each["index"]) == tunes(http, **body)
    assert end["object"] == "list.end"
    assert end["usage"]["units"] > 5 * 8 * 4


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"genre": "polka"}, "genre", "hornpipe, jig, reel, strathspey"),
        ({"key": "C#"}, "key", "C, D, Eb, E, F, G, A, Bb"),
        ({"genre": "reel", "meter": "6/8"}, "meter", "4/4"),
        ({"bars": 33}, "bars", "from 4 to 32"),
        ({"genre": "jig", "key": "G", "prompt": "GAB cdef | "}, "prompt", "bar 1 holds 7 eighths; in 6/8 it is 6"),
    ],
)
def test_what_the_model_does_not_know_is_refused_with_the_choices(
    http: httpx.Client, fields: dict[str, Any], param: str, says: str
) -> None:
    answer = http.post(PATH, json={"model": MODEL, **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert says in error["message"]
