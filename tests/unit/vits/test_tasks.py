"""What clients may ask of a voice, and what is refused before it costs anything."""

from __future__ import annotations

from typing import Any

import pytest

from services.families.vits.tasks import LONGEST, Speaking, SpeechTask
from shared.config.vits import VitsModel
from shared.errors import InvalidRequest
from shared.schemas.audio import SpeechRequest
from tests.unit.vits.tiny import RATE, VOICE, Letters

MODEL = VitsModel(id="joe", source="file://voice", voice="joe", max_phonemes=60)
TASK = SpeechTask(VOICE, Letters(), Speaking("joe", "joe", 0.9, gap_s=0.1, most_phonemes=60))


def speech(text: str, **fields: Any) -> SpeechRequest:
    return SpeechRequest.model_validate({"model": "joe", "input": text, "voice": "joe", **fields})


def test_a_text_is_one_row_of_its_sentences_with_silence_between_them() -> None:
    (row,) = TASK.prepare(speech("Hello you. Bye!", seed=3))
    assert [each.ids for each in row.sentences] == [VOICE.ids("hello you."), VOICE.ids("bye!")]
    assert [each.silence for each in row.sentences] == [round(0.1 * RATE), 0]
    assert (row.seed, row.temperature, row.speed, row.output.prompt_tokens) == (3, 0.9, 1.0, 14)
    assert row.cost == 14


def test_speed_changes_cost_and_silence_and_how_much_is_said_in_one_go() -> None:
    fast, slow = (TASK.prepare(speech("Hello you. Bye!", speed=speed))[0] for speed in (2.0, 0.5))
    assert (fast.cost, slow.cost) == (7, 28)
    assert (fast.sentences[0].silence, slow.sentences[0].silence) == (400, 1600)
    big = SpeechTask(VOICE, Letters(), Speaking("joe", "joe", 1.0, gap_s=0.1, most_phonemes=9999))
    text = "word " * 100
    longest = [max(s.phonemes for s in big.prepare(speech(text, speed=speed))[0].sentences) for speed in (4, 1, 0.25)]
    assert LONGEST - 6 < longest[0] == longest[1] <= LONGEST
    assert LONGEST / 2 - 6 < longest[2] <= LONGEST / 2


def test_pieces_of_one_sentence_have_no_silence_between_them() -> None:
    big = SpeechTask(VOICE, Letters(), Speaking("joe", "joe", 1.0, gap_s=0.1, most_phonemes=9999))
    (row,) = big.prepare(speech("word " * 60 + ". End."))
    assert [each.silence for each in row.sentences] == [0, 800, 0]


def test_a_phoneme_that_the_voice_does_not_know_is_left_out() -> None:
    (row,) = TASK.prepare(speech("añb"))  # n and a tilde, of which the voice knows the first
    assert row.sentences[0].ids == VOICE.ids("anb.")
    assert VOICE.ids("ab")[:6] == [1, 0, VOICE.phoneme_id_map["a"][0], 0, VOICE.phoneme_id_map["b"][0], 0]


@pytest.mark.parametrize(
    ("request_", "param", "code", "message"),
    [
        (speech("hi", voice="alloy"), "voice", "unknown_voice", "the voice 'joe' alone; got 'alloy'"),
        (speech("hi", voice={"id": "alloy"}), "voice", "unknown_voice", "got 'alloy'"),
        (speech("hi", instructions="whisper"), "instructions", "invalid_value", "follows no instructions"),
        (speech("... !"), "input", "invalid_value", "nothing to say"),
        (speech("#"), "input", "invalid_value", "nothing to say"),
        (speech("a" * 60), "input", "string_above_max_length", "at most 60 phonemes a request; this text has 61"),
    ],
)
def test_what_cannot_be_said_is_refused_with_the_reason(
    request_: SpeechRequest, param: str, code: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        TASK.prepare(request_)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert message in caught.value.message


def test_a_refused_voice_costs_no_phonemes() -> None:
    letters = Letters()
    task = SpeechTask(VOICE, letters, TASK.speaking)
    with pytest.raises(InvalidRequest):
        task.prepare(speech("hi", voice="alloy"))
    assert letters.asked == []


@pytest.mark.parametrize("text", ["a", "Hello you. Bye!", "a" * 59])
@pytest.mark.parametrize("speed", [0.25, 1, 4])
def test_no_request_costs_more_than_its_bound(text: str, speed: float) -> None:
    request = speech(text, speed=speed)
    (row,) = TASK.prepare(request)
    assert 0 < row.cost <= MODEL.cost_bound(request, {})
    assert row.predicted_steps >= 3 * len(row.sentences)


def test_two_requests_without_a_seed_draw_apart() -> None:
    assert TASK.prepare(speech("hi"))[0].seed != TASK.prepare(speech("hi"))[0].seed
