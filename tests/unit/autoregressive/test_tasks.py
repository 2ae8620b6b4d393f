"""What clients may ask, and what is refused before it costs anything."""

from __future__ import annotations

from typing import Any

import pytest

from services.families.autoregressive.sampler import WaveSampler
from services.families.autoregressive.tasks import SoundTask, Speaking, SpeechTask
from services.families.autoregressive.vocabulary import Vocabulary
from services.nn.audio import AudioChunk
from services.nn.rng import image_seed
from shared.config.autoregressive import WaveSoundModel, WaveSpeechModel
from shared.errors import InvalidRequest
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest
from tests.unit.autoregressive.test_sampler import run
from tests.unit.autoregressive.tiny import DRUMS, SOUNDS, WORDS, make_model

SPEAK = SpeechTask(WORDS, Vocabulary(SOUNDS, "words"), Speaking("words", 0.7, gap_s=0.1, most_words=4))
SOUND = SoundTask(DRUMS, Vocabulary(SOUNDS, "drums"), 0.9)
SPEECH_MODEL = WaveSpeechModel(id="words", source="builtin://words", kind="speech", max_words=4)
SOUND_MODEL = WaveSoundModel(id="drums", source="builtin://drums", kind="sound")


def speech(text: str, **fields: Any) -> SpeechRequest:
    return SpeechRequest.model_validate({"model": "words", "input": text, "voice": "ann", **fields})


def drums(prompt: str, **fields: Any) -> AudioGenerationRequest:
    return AudioGenerationRequest.model_validate({"model": "drums", "prompt": prompt, **fields})


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a", [0]),
        ("A 1, two.", [0, 1, 2]),
        ("12", [1, 2]),
        ("2-1\n a;", [2, 1, 0]),
        ("One two ONE", [1, 2, 1]),
    ],
)
def test_a_text_is_its_words_one_after_the_other(text: str, labels: list[int]) -> None:
    (row,) = SPEAK.prepare(speech(text, seed=3))
    assert [turn.label for turn in row.turns] == labels
    assert [turn.frames for turn in row.turns] == [SOUNDS[label].frames for label in labels]
    assert (row.seed, row.gap, row.temperature, row.output.prompt_tokens) == (3, 800, 0.7, len(labels))
    assert row.cost <= SPEECH_MODEL.cost_bound(speech(text), {"max_frames": 60.0})


@pytest.mark.parametrize(
    ("request_", "param", "code", "message"),
    [
        (speech("a hello 1"), "input", "unknown_word", "cannot say 'hello'. It says: a 1 2; digits may be"),
        (speech("13"), "input", "unknown_word", "cannot say '13'"),
        (speech("²"), "input", "unknown_word", "cannot say '²'"),
        (speech("..., !"), "input", "invalid_value", "no word to say"),
        (speech("1 1 12 1"), "input", "invalid_value", "at most 4 words a request; got 5"),
        (speech("a", voice="alloy"), "voice", "unknown_voice", "the voice 'ann' alone; got 'alloy'"),
        (speech("a", voice={"id": "v1"}), "voice", "unknown_voice", "got 'v1'"),
        (speech("a", speed=1.5), "speed", "invalid_value", "alone; got 1.5"),
        (speech("a", instructions="whisper"), "instructions", "invalid_value", "follows no instructions"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(request_: SpeechRequest, param: str, code: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SPEAK.prepare(request_)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert message in str(caught.value)


def test_a_very_long_word_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SPEAK.prepare(speech("x" * 4000))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("prompt", "label"), [("a", 0), ("One", 1), ("  a   PAIR ", 2)])
def test_a_prompt_names_one_sound_and_each_of_n_is_a_row(prompt: str, label: int) -> None:
    rows = SOUND.prepare(drums(prompt, n=3, seed=5, temperature=1.2))
    assert [row.turns[0].label for row in rows] == [label] * 3
    assert [row.seed for row in rows] == [image_seed(5, i) for i in range(3)]
    assert {row.temperature for row in rows} == {1.2}
    assert len({id(row.output) for row in rows}) == 3, "each row is a file of its own"


def test_an_unknown_sound_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRequest, match=r"no sound 'gong'\. Its sounds: a, 1, 2") as caught:
        SOUND.prepare(drums("gong"))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(("seconds", "frames"), [(None, 60), (0.02, 40), (10.0, 60), (1e-6, 1)])
def test_seconds_bound_a_sound(seconds: float | None, frames: int) -> None:
    """A frame is half a millisecond; there is one at least, and no more than the class may have."""
    asked = drums("1", n=2, seconds=seconds)
    rows = SOUND.prepare(asked)
    assert [row.cost for row in rows] == [frames, frames]
    limits = {"max_frames": 60.0, "frames_per_second": 2000.0}
    assert sum(row.cost for row in rows) <= SOUND_MODEL.cost_bound(asked, limits)


@pytest.mark.parametrize("stream", [False, True])
def test_a_file_of_sound_says_what_makes_it_again(stream: bool) -> None:
    (row,) = SOUND.prepare(drums("2", seed=9, stream=stream, response_format="wav"))
    chunks = [output.chunk for output in run(WaveSampler(make_model(DRUMS, end=-60.0), 1), row)]
    deltas = [SOUND.encode(chunk) for chunk in chunks if isinstance(chunk, AudioChunk)]
    data = b"".join(delta.data for delta in deltas)
    samples = SOUNDS[2].frames * DRUMS.frame
    assert len(data) == 44 + 2 * samples
    assert (deltas[-1].seconds, deltas[-1].sample_rate, deltas[-1].seed) == (samples / 8000, 8000, 9)
    assert bool(deltas[0].data) is stream, "a file that is wanted whole is written when its length is known"
