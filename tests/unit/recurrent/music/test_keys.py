"""Keys: names, signatures, degrees and pitches."""

from __future__ import annotations

import pytest

from services.families.recurrent.music.keys import LETTERS, Key, Pitch
from services.families.recurrent.music.repertoire import KEYS


@pytest.mark.parametrize(
    ("text", "written", "sharps", "midi_name"),
    [
        ("G", "G", 1, "G"),
        ("D major", "D", 2, "D"),
        ("Bb", "Bb", -2, "Bb"),
        ("Em", "Em", 1, "Em"),
        ("A minor", "Am", 0, "Am"),
        ("GMin", "Gm", -2, "Gm"),
        ("Ador", "Ador", 1, "G"),
        ("EDorian", "Edor", 2, "D"),
        ("DMix", "Dmix", 1, "G"),
        ("F#m", "F#m", 3, "F#m"),
    ],
)
def test_a_key_is_read_from_the_ways_that_it_is_written(text: str, written: str, sharps: int, midi_name: str) -> None:
    key = Key.parse(text)
    assert key is not None
    assert (str(key), key.sharps, key.midi_name) == (written, sharps, midi_name)


@pytest.mark.parametrize("text", ["", "H", "Glyd", "G7", "none", "g", "D phrygian"])
def test_what_is_no_key_of_these_modes_is_none(text: str) -> None:
    assert Key.parse(text) is None


def test_a_signature_sharpens_and_flattens_its_letters_alone() -> None:
    signed = {name: {letter for letter in LETTERS if Key(name, "major").signed(letter)} for name in ("D", "Eb", "C")}
    assert signed == {"D": set("FC"), "Eb": set("BEA"), "C": set()}
    assert (Key("D", "major").signed("F"), Key("Eb", "major").signed("B")) == (1, -1)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_degrees_and_pitches_are_inverse_and_rise_as_the_mode_does(key: Key) -> None:
    scale = [key.pitch(degree, 0).midi - key.tonic_pitch.midi for degree in range(8)]
    thirds = {"major": 4, "mixolydian": 4, "minor": 3, "dorian": 3}
    sevenths = {"major": 11, "mixolydian": 10, "minor": 10, "dorian": 10}
    assert (scale[2], scale[4], scale[6], scale[7]) == (thirds[key.mode], 7, sevenths[key.mode], 12)
    assert scale[5] == (8 if key.mode == "minor" else 9)
    assert 59 <= key.tonic_pitch.midi + (key.tonic == "Bb") <= 69
    for degree, alteration in ((-3, 0), (5, 1), (11, -1)):
        assert key.degree(key.pitch(degree, alteration)) == (degree, alteration)


def test_middle_c_is_midi_60() -> None:
    assert Pitch(28, 0).midi == 60
    assert Pitch(28 + 5, -1).midi == 68
