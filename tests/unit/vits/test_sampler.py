"""How rows advance: window by window, by seed, speed and temperature, and the end of one that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from services.engine.contract import FinishReason
from services.families.vits.network import Floats, Manner, Reading, VoiceNetwork
from services.families.vits.params import WINDOW, SpeechParams
from services.families.vits.sampler import SpeechSampler
from services.nn.audio import Samples, encode_chunk
from tests.contract.driver import Driver
from tests.unit.vits.tiny import CHANNELS, HOP, RATE, VOICE, make_sampler, params

TEXT = "so it goes on, and on, and on for longer than a window has frames."


@pytest.fixture
def sampler(voice_path: Path) -> SpeechSampler:
    return make_sampler(voice_path)


def pieces(sampler: SpeechSampler, row: SpeechParams) -> list[Samples | None]:
    """What each step gave, to the end."""
    state, out = sampler.start(row), []
    while True:
        (output,) = sampler.step([state])
        out.append(None if output.chunk is None else output.chunk.samples)
        if output.finish_reason is not None:
            assert output.finish_reason is FinishReason.STOP
            sampler.release(state)
            return out


def sound(sampler: SpeechSampler, row: SpeechParams) -> Samples:
    return np.concatenate([piece for piece in pieces(sampler, row) if piece is not None])


def test_a_sentence_is_heard_window_by_window_after_two_silent_steps(sampler: SpeechSampler) -> None:
    steps = pieces(sampler, params(1, TEXT))
    assert steps[:2] == [None, None]
    assert len(steps) > 4
    assert {len(piece) for piece in steps[2:-1] if piece is not None} == {WINDOW * HOP}


def test_the_first_sentence_is_heard_before_the_second_is_read(sampler: SpeechSampler) -> None:
    steps = pieces(sampler, params(1, "a.", "b.", silence=0))
    assert [piece is None for piece in steps] == [True, True, False, True, True, False]


def test_silence_follows_a_sentence_that_has_it(sampler: SpeechSampler) -> None:
    with_it = sound(sampler, params(1, "a.", "b.", silence=50))
    without = sound(sampler, params(1, "a.", "b.", silence=0))
    assert len(with_it) - len(without) == 50
    assert not with_it[-50:].any()


def test_a_seed_gives_its_sound_and_another_seed_another(sampler: SpeechSampler) -> None:
    first, again, other = (sound(sampler, params(seed, TEXT)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_at_next_to_no_temperature_the_seed_says_nothing(sampler: SpeechSampler) -> None:
    one, other = (sound(sampler, params(seed, TEXT, temperature=1e-6)) for seed in (1, 2))
    assert len(one) == len(other)
    assert np.abs(one.astype(int) - other).max() <= 1


def test_sentences_of_one_row_that_say_the_same_sound_apart(sampler: SpeechSampler) -> None:
    steps = [piece for piece in pieces(sampler, params(1, "a.", "a.", silence=0)) if piece is not None]
    assert not np.array_equal(steps[0], steps[1])


def test_half_the_speed_is_about_twice_the_length(sampler: SpeechSampler) -> None:
    usual, slow = (len(sound(sampler, params(1, TEXT, speed=speed))) for speed in (1.0, 0.5))
    assert 1.6 < slow / usual < 2.2


def test_a_row_counts_as_much_work_as_it_costs(sampler: SpeechSampler) -> None:
    row = params(5, TEXT, "b.", speed=2.0)
    state, units = sampler.start(row), 0.0
    while True:
        (output,) = sampler.step([state])
        units += output.units
        assert output.units > 0
        if output.finish_reason is not None:
            break
    assert units == pytest.approx(row.cost)


class Unsound:
    """A network that makes no number of a row's first sound, or a reading without end of its sentence."""

    def __init__(self, inner: VoiceNetwork, fault: str) -> None:
        self.inner, self.fault = inner, fault

    def read(self, ids: Sequence[int], manner: Manner, noise: Floats) -> Reading:
        reading = self.inner.read(ids, manner, noise)
        if self.fault == "reading" and len(ids) == len(VOICE.ids("bad.")):
            return Reading(reading.values, (1, CHANNELS, 10_000))
        return reading

    def sketch(self, reading: Reading, manner: Manner, noise: Floats) -> Floats:
        return self.inner.sketch(reading, manner, noise)

    def sound(self, latent: Floats, first: int, last: int) -> Floats:
        heard = self.inner.sound(latent, first, last)
        return heard * np.nan if self.fault == "sound" and latent.shape[-1] < WINDOW else heard


@pytest.mark.parametrize(("fault", "steps"), [("reading", 1), ("sound", 3)])
def test_a_row_that_is_no_speech_fails_alone(sampler: SpeechSampler, fault: str, steps: int) -> None:
    alone = sound(sampler, params(2, TEXT))
    sampler.network = Unsound(sampler.network, fault)  # type: ignore[assignment]
    driver = Driver(sampler)
    bad, good = driver.submit(params(1, "bad.")), driver.submit(params(2, TEXT))
    for _ in range(steps):
        driver.step()
    assert driver.run.final(bad).finish_reason is FinishReason.ERROR
    run = driver.finish()
    assert np.array_equal(np.concatenate([chunk.samples for chunk in run.chunks(good)]), alone)
    assert not sampler.running


def test_the_pieces_become_one_file_as_they_come(sampler: SpeechSampler) -> None:
    row = params(1, TEXT)
    state, data, seconds = sampler.start(row), b"", 0.0
    while True:
        (output,) = sampler.step([state])
        if output.chunk is not None:
            event = encode_chunk(output.chunk)
            data += event.data
            seconds = event.seconds
        if output.finish_reason is not None:
            break
    expected = sound(sampler, params(1, TEXT))
    assert data[44:] == expected.astype("<i2").tobytes()
    assert seconds == pytest.approx(len(expected) / RATE)
