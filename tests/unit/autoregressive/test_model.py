"""The network over whole clips: causal, exact, and alike in every batch."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from services.families.autoregressive.model import Clips, WaveNetConfig, end_log_likelihood, log_likelihood
from services.families.autoregressive.mulaw import CODES, SILENCE, levels, to_codes
from tests.unit.autoregressive.tiny import WORDS, make_model


def some_clips(*frames: int, seed: int = 0) -> Clips:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, CODES, (len(frames), max(frames) * WORDS.frame), generator=generator)
    return Clips(codes, torch.tensor(frames), torch.arange(len(frames)) % 3)


def test_a_sample_depends_on_those_before_it_alone() -> None:
    model, clips = make_model().double(), some_clips(20)
    before = model(clips)
    for at in (0, 3, 4, 30, 79):
        changed = clips.codes.clone()
        changed[0, at] = (changed[0, at] + 100) % CODES
        after = model(clips._replace(codes=changed))
        moved = (after.codes - before.codes).abs().amax(2).flatten() > 1e-9  # of each sample
        assert not moved[: at + 1].any(), f"sample {at} is seen by itself or by one before it"
        ends = (after.end - before.end).abs()[0] > 1e-9  # before each frame
        assert not ends[: at // WORDS.frame + 1].any()
        if at < 79:
            assert moved[at + 1], f"sample {at} is not seen by the next"
            assert ends[at // WORDS.frame + 1]


def test_the_far_past_is_seen_through_the_dilated_layers() -> None:
    """As far as the receptive field reaches, and no farther."""
    model, clips = make_model().double(), some_clips(40)
    before, changed = model(clips), clips.codes.clone()
    changed[0, : WORDS.frame] = SILENCE
    moved = (model(clips._replace(codes=changed)).codes - before.codes).abs().amax((1, 2)) > 1e-12
    reach = WORDS.receptive // WORDS.frame
    assert moved[reach]
    assert not moved[reach + 1 :].any()


def test_a_label_and_a_place_change_what_is_likely() -> None:
    model, clips = make_model(), some_clips(12)
    assert not torch.equal(
        log_likelihood(model, clips), log_likelihood(model, clips._replace(labels=torch.tensor([1])))
    )
    places = model.places_at(torch.tensor([[0]]), torch.arange(20)[None])
    assert (places[0, 1:] - places[0, :-1]).abs().amax(1).min() > 0
    assert torch.allclose(places[0, 4], (model.place[0, 0] + model.place[0, 1]) / 2)


def test_a_clip_is_as_likely_in_a_batch_of_longer_ones() -> None:
    model, clips = make_model().double(), some_clips(7, 20, 12)
    alone = [
        log_likelihood(
            model, Clips(clips.codes[i : i + 1, : n * WORDS.frame], torch.tensor([n]), clips.labels[i : i + 1])
        )
        for i, n in enumerate((7, 20, 12))
    ]
    assert torch.allclose(log_likelihood(model, clips), torch.cat(alone))


def test_the_likelihood_is_that_of_each_sample_and_of_the_end() -> None:
    """Summed over every code that the last sample could have, times what it takes to end later: exactly one."""
    model = make_model(end=0.5).double()
    clips = some_clips(3)
    every = Clips(clips.codes.repeat(CODES, 1), clips.frames.repeat(CODES), clips.labels.repeat(CODES))
    every.codes[:, -1] = torch.arange(CODES)
    logits = model(every)
    whole = log_likelihood(model, every)
    # Of all but the last sample, and of going on: alike for all of them.
    known = logits.codes.log_softmax(2).view(CODES, -1, CODES).gather(2, every.codes[..., None])[:, :-1].sum((1, 2))
    goes_on = end_log_likelihood(logits.end, every.frames) - torch.nn.functional.logsigmoid(logits.end[:, 3])
    last = whole - known - goes_on - torch.nn.functional.logsigmoid(logits.end[:, 3])
    assert last.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_ends_at_all_frames_and_beyond_are_certain_together() -> None:
    end = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    each = torch.stack([end_log_likelihood(end, torch.tensor([frames])) for frames in range(6)]).exp().sum()
    beyond = torch.sigmoid(-end).prod()
    assert (each + beyond).item() == pytest.approx(1)


def test_codes_are_finest_near_silence_and_come_back_from_their_levels() -> None:
    assert torch.equal(to_codes(levels()), torch.arange(CODES))
    steps = levels().diff()
    assert steps.min() == steps[SILENCE - 1] < 1e-3 < steps.max()
    assert to_codes(torch.zeros(1)).item() == SILENCE
    assert to_codes(torch.tensor([-1.0, 1.0])).tolist() == [0, CODES - 1]


@pytest.mark.parametrize("change", [{"voice": ""}, {"kind": "sound"}, {"dilations": ()}, {"colour": "red"}])
def test_a_configuration_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WaveNetConfig.model_validate({**WORDS.model_dump(), **change})
