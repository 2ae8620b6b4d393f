"""MIDI files by mido and music21, ABC and MusicXML by music21, sound by the wave module: what others read of a tune."""

from __future__ import annotations

import io
import os
import wave
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from music21 import converter

from services.families.recurrent.music.abc_writing import write_abc
from services.families.recurrent.music.checking import Checker
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.midi import write_midi
from services.families.recurrent.music.scores import Metre, Note, Tune
from services.families.recurrent.music.sound import RATE, FluidSynth, PluckedString
from services.nn.errors import UnsupportedModel
from shared.errors import InternalError

JIG = Tune(
    "jig",
    Metre(6, 8),
    Key("E", "dorian"),
    (
        (*(Note(i, 0, 16) for i in (0, 1, 2)), Note(2, 1, 24), Note(None, 0, 72)),
        (Note(4, 0, 72), Note(7, 0, 36), Note(6, 0, 12), Note(5, -1, 24)),
        (Note(0, 0, 120), Note(None, 0, 24)),
    ),
    tempo=90,
    title="A jig",
)


def test_a_midi_file_has_metre_key_tempo_and_every_note() -> None:
    file = mido.MidiFile(file=io.BytesIO(write_midi(JIG)))
    (track,) = file.tracks
    meta = {message.type: message for message in track if message.is_meta}
    assert (meta["time_signature"].numerator, meta["time_signature"].denominator) == (6, 8)
    assert meta["key_signature"].key == "D"  # of the signature of E dorian
    assert meta["set_tempo"].tempo == 60_000_000 * 2 // 3 // 90  # a quarter; a beat is a dotted one
    assert [m.note for m in track if m.type == "note_on"] == [64, 66, 67, 68, 71, 76, 74, 72, 64]
    assert sum(m.time for m in track) == 3 * 6 * 240
    assert file.length == pytest.approx(3 * 2 / 90 * 60, abs=1e-4)
    assert JIG.seconds == pytest.approx(file.length, abs=1e-4)


def test_music21_reads_the_midi_file_as_the_same_bars() -> None:
    score = converter.parseData(write_midi(JIG), format="midi")
    (metre,) = {each.ratioString for each in score.recurse().getElementsByClass("TimeSignature")}
    assert metre == "6/8"
    assert len(list(score.recurse().getElementsByClass("Measure"))) == 3
    assert [note.pitch.midi for note in score.recurse().notes] == [64, 66, 67, 68, 71, 76, 74, 72, 64]


def test_a_parser_of_abc_finds_what_was_asked_for_and_no_less() -> None:
    checker, abc = Checker(), write_abc(JIG)
    assert checker.is_valid(abc, JIG)
    assert not checker.is_valid(abc, replace(JIG, bars=JIG.bars[:2]))
    assert not checker.is_valid(abc, replace(JIG, metre=Metre(4, 4)))
    assert not checker.is_valid(abc, replace(JIG, key=Key("E", "major")))
    short = replace(JIG, bars=(JIG.bars[0], JIG.bars[1][:-1], JIG.bars[2]))
    assert not checker.is_valid(write_abc(short), JIG)
    assert not checker.is_valid("no music", JIG)


def test_musicxml_reads_as_the_same_tune_and_has_no_date() -> None:
    text = Checker().musicxml(write_abc(JIG))
    assert text is not None
    assert "encoding-date" not in text
    score = converter.parseData(text, format="musicxml")
    assert [note.pitch.midi for note in score.stripTies().recurse().notes] == [64, 66, 67, 68, 71, 76, 74, 72, 64]
    assert len(list(score.recurse().getElementsByClass("Measure"))) == 3


def test_a_string_sounds_at_the_note_s_frequency_and_is_silent_in_rests() -> None:
    tune = replace(JIG, bars=((Note(3, 0, 72), Note(None, 0, 72)),), tempo=40)  # the A of 440 Hz, 1.5 s of each
    with wave.open(io.BytesIO(PluckedString().play(tune))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15
    assert len(sound) / RATE == pytest.approx(tune.seconds + 0.25, abs=0.01)
    assert 0.7 < np.abs(sound).max() <= 0.81
    spectrum = np.abs(np.fft.rfft(sound[: int(1.4 * RATE)]))
    assert np.argmax(spectrum) * RATE / int(1.4 * RATE) == pytest.approx(440, abs=1)
    assert np.abs(sound[int(2 * RATE) :]).max() < 0.001


def _program(folder: Path, script: str) -> None:
    path = folder / "fluidsynth"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_soundfont_is_played_by_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in copies its words and the MIDI file into what it was told to write."""
    font = tmp_path / "font.sf2"
    font.write_bytes(b"RIFF")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    _program(tmp_path, 'while [ "$1" != "-F" ]; do shift; done; echo "$3" > "$2"; cat "$4" >> "$2"')
    played = FluidSynth.with_soundfont(font).play(JIG)
    assert played == f"{font}\n".encode() + write_midi(JIG)
    _program(tmp_path, "exit 3")
    with pytest.raises(InternalError):
        FluidSynth.with_soundfont(font).play(JIG)


def test_a_soundfont_without_its_program_or_its_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedModel, match="not on the PATH"):
        FluidSynth.with_soundfont(tmp_path / "font.sf2")
    _program(tmp_path, "exit 0")
    with pytest.raises(UnsupportedModel, match="no file"):
        FluidSynth.with_soundfont(tmp_path / "font.sf2")
