"""Rows of sounds: how they end, what lies between words, what they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from services.engine.contract import FinishReason, StepOutput
from services.families.autoregressive.params import WaveParams
from services.families.autoregressive.sampler import FRAMES, WaveSampler
from services.nn.audio import AudioChunk
from tests.unit.autoregressive.tiny import SOUNDS, WORDS, make_model, params


def run(sampler: WaveSampler, row: WaveParams) -> list[StepOutput[AudioChunk]]:
    state, outputs = sampler.start(row), []
    while not outputs or outputs[-1].finish_reason is None:
        outputs += sampler.step([state])
    sampler.release(state)
    return outputs


def sound(outputs: list[StepOutput[AudioChunk]]) -> np.ndarray:
    return np.concatenate([output.chunk.samples for output in outputs if output.chunk is not None])


def test_a_sound_that_does_not_end_stops_at_the_most_that_it_may_have() -> None:
    outputs = run(WaveSampler(make_model(end=-60.0), 4), params(1, 0))
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert len(sound(outputs)) == SOUNDS[0].frames * WORDS.frame
    assert sum(output.units for output in outputs) == SOUNDS[0].frames == params(1, 0).cost
    assert [output.chunk.last for output in outputs if output.chunk] == [False] * (len(outputs) - 1) + [True]


def test_a_sound_that_always_ends_has_one_frame() -> None:
    outputs = run(WaveSampler(make_model(end=60.0), 4), params(1, 1))
    assert [output.finish_reason for output in outputs] == [FinishReason.STOP]
    assert len(sound(outputs)) == WORDS.frame


def test_words_follow_each_other_with_a_gap_of_silence() -> None:
    """Each is drawn as if nothing came before it."""
    sampler = WaveSampler(make_model(end=-60.0), 4)
    both = sound(run(sampler, params(1, 0, 2, gap=50)))
    first, second = (SOUNDS[label].frames * WORDS.frame for label in (0, 2))
    assert len(both) == first + 50 + second
    assert not both[first : first + 50].any()
    assert np.array_equal(both[:first], sound(run(sampler, params(1, 0))))
    assert both[first + 50 :].any()


def test_a_bound_below_a_step_is_kept() -> None:
    outputs = run(WaveSampler(make_model(end=-60.0), 4), params(1, 1, frames=FRAMES - 3))
    assert len(outputs) == 1
    assert len(sound(outputs)) == (FRAMES - 3) * WORDS.frame


@pytest.mark.parametrize("frames", [FRAMES, 2 * FRAMES])
def test_a_bound_of_whole_steps_takes_no_step_more(frames: int) -> None:
    outputs = run(WaveSampler(make_model(end=-60.0), 4), params(1, 1, frames=frames))
    assert len(outputs) == frames // FRAMES
    assert len(sound(outputs)) == frames * WORDS.frame


def test_seeds_and_labels_change_what_is_drawn_and_nothing_else_does() -> None:
    sampler = WaveSampler(make_model(end=-60.0), 4)
    first = sound(run(sampler, params(1, 1)))
    assert np.array_equal(first, sound(run(WaveSampler(make_model(end=-60.0), 4), params(1, 1))))
    assert not np.array_equal(first, sound(run(sampler, params(2, 1))))
    assert not np.array_equal(first[:160], sound(run(sampler, params(1, 2))))


def test_a_small_temperature_leaves_the_likeliest() -> None:
    """So seeds no longer matter."""
    sampler = WaveSampler(make_model(end=-60.0), 4)
    cold = [sound(run(sampler, params(seed, 0, temperature=1e-4))) for seed in (1, 2)]
    assert np.array_equal(*cold)


def test_a_row_without_finite_values_fails_alone() -> None:
    sampler = WaveSampler(make_model(end=-60.0), 4)
    good, bad = sampler.start(params(1, 1)), sampler.start(params(2, 1))
    bad.progress.heard.queues.fill_(float("nan"))
    outputs = sampler.step([good, bad])
    assert [output.finish_reason for output in outputs] == [None, FinishReason.ERROR]
    assert outputs[1].chunk is None
