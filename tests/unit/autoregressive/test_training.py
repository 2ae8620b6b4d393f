"""Clips on their way in, and learning, through the recipes' own parts in small."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from services.families.autoregressive import data
from services.families.autoregressive.clips import (
    ClipSet,
    collated,
    read_clips,
    read_sound,
    resampled,
    trimmed,
    write_clips,
)
from services.families.autoregressive.mulaw import SILENCE, to_codes
from services.families.autoregressive.sheets import clip_sheet, sample_sheet
from services.families.autoregressive.training import Course, WaveTraining, altered, bits_per_sample
from tests.unit.autoregressive.tiny import WORDS, make_clips, make_model

COURSE = Course(learning_rate=1e-2, speed=0.05, gain_db=3.0, noise=1.0)
# Of labels 0 and 1, with room for altered clips.
CONFIG = WORDS.model_copy(
    update={"sounds": tuple(sound.model_copy(update={"frames": 170}) for sound in WORDS.sounds), "channels": 16}
)


def training(seed: int = 0) -> WaveTraining:
    clips = make_clips()
    train, held_out = (clips.part(held_out=out) for out in (False, True))
    return WaveTraining(CONFIG, COURSE, train, held_out, sample_sheet, seed)


def learn(run: WaveTraining, steps: int) -> None:
    """The loop's own steps in small."""
    (phase,) = run.phases
    optimizer = torch.optim.AdamW(run.modules["model"].parameters(), lr=phase.learning_rate)
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        batch = run.batch(torch.randint(run.examples, (4,), generator=draws), draws)
        loss, figures = run.loss(phase.name, run.modules, batch, draws)
        assert figures["bits_per_sample"] * math.log(2) <= loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.modules["model"].eval().requires_grad_(False)


def test_the_same_seed_begins_with_the_same_weights_and_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (training(seed).modules["model"].state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_few_steps_make_held_out_clips_likelier() -> None:
    run = training()
    before = run.validate(run.modules)["metric"]
    learn(run, 20)
    after = run.validate(run.modules)["metric"]
    assert before == pytest.approx(8, abs=0.5), "at first every code is as likely as another"
    assert after < before - 0.4
    assert run.sample(run.modules).size[0] > 96


def test_what_is_heard_is_noisy_and_what_is_told_is_not() -> None:
    run = training()
    batch = run.batch(torch.tensor([0, 1]), torch.Generator().manual_seed(3))
    away = (batch.heard - batch.codes).abs()
    assert 0 < away.float().mean() < 2
    again = run.batch(torch.tensor([0, 1]), torch.Generator().manual_seed(3))
    assert torch.equal(batch.codes, again.codes)
    assert torch.equal(batch.heard, again.heard)


def test_an_altered_clip_is_faster_or_slower_and_no_longer_than_it_may_be() -> None:
    clips = ClipSet([torch.sin(torch.arange(680) / 4) * 0.5] * 20, [0] * 20, [False] * 20)
    changed = altered(clips, CONFIG, COURSE, torch.Generator().manual_seed(0))
    assert len(changed.frames.unique()) > 5
    assert changed.frames.max() == 170 >= 680 * 1.05 / 4 - 9
    still = altered(clips, CONFIG, Course(0.0, speed=0.0, gain_db=0.0, noise=0.0), torch.Generator())
    assert torch.equal(still.codes[0], to_codes(clips.clips[0]))


def test_bits_are_the_same_however_clips_are_put_together() -> None:
    clips = make_clips()
    model = make_model(CONFIG).double()
    alone = [bits_per_sample(model, clips.take([i])) for i in range(4)]
    assert bits_per_sample(model, clips) == pytest.approx(sum(alone) / 4)  # they are as long as each other


def test_clips_are_filled_up_with_silence() -> None:
    clips = collated([torch.ones(5) * 0.5, torch.ones(12) * 0.5], [0, 1], 4)
    assert clips.frames.tolist() == [2, 3]
    assert (clips.codes[0, 5:] == SILENCE).all()
    assert (clips.codes[1] != SILENCE).all()


def test_clips_come_back_from_disk(tmp_path: Path) -> None:
    clips = make_clips()
    write_clips(tmp_path, clips)
    found = read_clips(tmp_path)
    assert (found.labels, found.held_out) == (clips.labels, clips.held_out)
    for one, other in zip(clips.clips, found.clips, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("length", [500, 1000, 1370])
def test_another_rate_is_the_same_sound(length: int) -> None:
    time = torch.arange(1000) / 1000
    shape = torch.exp(-(((time - 0.5) * 8) ** 2))  # it ends softly
    tone = torch.sin(time * 2 * math.pi * 40) * shape
    again = torch.arange(length) / length
    expected = torch.sin(again * 2 * math.pi * 40) * torch.exp(-(((again - 0.5) * 8) ** 2))
    assert torch.allclose(resampled(tone, length), expected, atol=2e-3)


def test_edges_are_cut_and_long_sounds_fade() -> None:
    sound = torch.cat([torch.zeros(800), torch.ones(1600) * 0.3, torch.zeros(4000)])
    short = trimmed(sound, 8000, 1.0)
    assert len(short) == 80 + 1600 + 240 - 1
    assert short.max().item() == pytest.approx(0.8)
    cut = trimmed(sound, 8000, 0.1)
    assert len(cut) == 800
    assert cut[-1].item() == 0


def test_files_of_any_rate_and_channels_are_read(tmp_path: Path) -> None:
    stereo = np.stack([np.full(4410, 0.2), np.full(4410, 0.4)], axis=1)
    soundfile.write(tmp_path / "x.flac", stereo, 44100)
    found = read_sound(tmp_path / "x.flac", 8000)
    assert len(found) == 800
    assert found[400].item() == pytest.approx(0.3, abs=0.01)


def test_words_are_what_the_transcripts_say(tmp_path: Path) -> None:
    """And a recording that says something else is refused."""
    voice, texts = tmp_path / data._VOICE, tmp_path / data._TEXTS
    lines = [
        f"{'letters' if name.isalpha() else 'digits'}/{name}: {(*words, name)[0]}" for name, words in data.WORDS.items()
    ]
    for folder in ("letters", "digits"):
        (voice / folder).mkdir(parents=True)
    texts.parent.mkdir(parents=True)
    for line in lines:
        path = voice / f"{line.partition(':')[0]}.wav"
        soundfile.write(path, np.sin(np.arange(2000) * (1 + len(line))), 8000)
    texts.write_bytes(gzip.compress("\n".join(["; of old", *lines]).encode()))
    clips = data.read_words(tmp_path, tmp_path)
    assert len(clips) == 36
    assert not any(clips.held_out)
    texts.write_bytes(gzip.compress("\n".join(lines).replace("digits/7: seven", "digits/7: eleven").encode()))
    with pytest.raises(ValueError, match="digits/7 says 'eleven'"):
        data.read_words(tmp_path, tmp_path)


def test_every_fifth_recording_of_a_class_is_held_out(tmp_path: Path) -> None:
    folder = tmp_path / data._SAMPLES
    folder.mkdir(parents=True)
    for name in [name for names in data.SOUNDS.values() for name in names]:
        soundfile.write(folder / f"{name}.flac", np.sin(np.arange(900)), 44100)
    clips = data.read_sounds(tmp_path)
    for label, names in enumerate(data.SOUNDS.values()):
        out = sum(gone for gone, of in zip(clips.held_out, clips.labels, strict=True) if of == label)
        assert out == math.ceil((len(names) - 2) / 5)
    assert set(data.SOUND_WORDS) == set(data.SOUNDS)


def test_a_name_may_be_as_long_as_its_longest_recording_and_a_little_more() -> None:
    sounds = data.described(
        {"a": (), "b": ("c",)}, ClipSet([torch.ones(100), torch.ones(300), torch.ones(200)], [0, 0, 1], [False] * 3), 16
    )
    assert [(sound.name, sound.words, sound.frames) for sound in sounds] == [("a", (), 20), ("b", ("c",), 13)]


def test_a_sheet_has_a_tile_for_each_clip() -> None:
    clips = make_clips().clips
    sheet = np.asarray(clip_sheet([clips[:2], clips[2:]], ["tone", "noise"], 8000).convert("L"))
    assert sheet.shape == (2 * (128 + 36 + 6) + 6, 96 + 2 * (10 + 6))
    tone, noise = sheet[6:134, 96:106], sheet[176:304, 96:106]
    assert tone[:64].mean() < noise[:64].mean(), "a tone has nothing in the upper half of its spectrum"
