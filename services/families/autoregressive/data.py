"""Owns what the two models learn from: spoken letters and digits, and drums and bass, from unpacked packages."""

from __future__ import annotations

import gzip
import math
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.families.autoregressive.clips import ClipSet, read_sound, trimmed
from services.families.autoregressive.model import Sound

RATE = 8000
LONGEST_WORD_S, LONGEST_SOUND_S = 1.0, 0.75
_SLACK = 1.04  # how much longer than a recording a clip may get: what alterations and draws need
_HELD_OUT = 5  # of a class's recordings every fifth is held out, the third first

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(string.ascii_lowercase, ()),
    **{str(i): (word,) for i, word in enumerate(_DIGITS)},
}
_VOICE = Path("usr/share/asterisk/sounds/en_US_f_Allison")
_TEXTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")

# Sonic Pi's recordings by what they sound like; their names say so.
SOUNDS: Mapping[str, Sequence[str]] = {
    "kick": [
        "bd_808",
        "bd_ada",
        "bd_boom",
        "bd_fat",
        "bd_gas",
        "bd_haus",
        "bd_klub",
        "bd_mehackit",
        "bd_pure",
        "bd_sone",
        "bd_tek",
        "bd_zome",
        "bd_zum",
        "drum_bass_hard",
        "drum_bass_soft",
        "drum_heavy_kick",
        "elec_hollow_kick",
        "elec_soft_kick",
    ],
    "snare": [
        "drum_snare_hard",
        "drum_snare_soft",
        "elec_filt_snare",
        "elec_hi_snare",
        "elec_lo_snare",
        "elec_mid_snare",
        "elec_snare",
        "sn_dolf",
        "sn_dub",
        "sn_generic",
        "sn_zome",
    ],
    "hi-hat": ["drum_cymbal_closed", "drum_cymbal_pedal"],
    "cymbal": [
        "drum_cymbal_hard",
        "drum_cymbal_open",
        "drum_cymbal_soft",
        "drum_splash_hard",
        "drum_splash_soft",
        "elec_cymbal",
    ],
    "tom": [
        "drum_tom_hi_hard",
        "drum_tom_hi_soft",
        "drum_tom_lo_hard",
        "drum_tom_lo_soft",
        "drum_tom_mid_hard",
        "drum_tom_mid_soft",
        "elec_fuzz_tom",
    ],
    "bell": ["drum_cowbell", "elec_bell", "elec_chime", "elec_ping", "elec_triangle", "perc_bell", "perc_bell2"],
    "tabla": [
        "tabla_dhec",
        "tabla_ghe1",
        "tabla_ghe2",
        "tabla_ghe3",
        "tabla_ghe4",
        "tabla_ghe5",
        "tabla_ghe6",
        "tabla_ghe7",
        "tabla_ghe8",
        "tabla_na",
        "tabla_na_o",
        "tabla_na_s",
        "tabla_re",
        "tabla_tas1",
        "tabla_tas2",
        "tabla_tas3",
        "tabla_te1",
        "tabla_te2",
        "tabla_te_m",
        "tabla_te_ne",
        "tabla_tun1",
        "tabla_tun2",
        "tabla_tun3",
    ],
    "bass": [
        "bass_dnb_f",
        "bass_drop_c",
        "bass_hard_c",
        "bass_hit_c",
        "bass_thick_c",
        "bass_trance_c",
        "bass_voxy_c",
        "bass_voxy_hit_c",
        "bass_woodsy_c",
    ],
}
SOUND_WORDS: Mapping[str, Sequence[str]] = {
    "kick": ("bass drum", "kick drum"),
    "snare": ("snare drum",),
    "hi-hat": ("hihat", "hi hat", "hat"),
    "cymbal": ("splash",),
    "tom": ("tom-tom", "tom tom"),
    "bell": (),
    "tabla": (),
    "bass": (),
}
_SAMPLES = Path("usr/share/sonic-pi/samples")


def read_words(sounds: Path, texts: Path) -> ClipSet:
    """Each word once, as the voice says it; none is held out, since there is no second recording of any.

    Raises ValueError where a recording is not of what its name says, by the transcripts.
    """
    said = _transcripts(texts / _TEXTS)
    names = {name: f"{'letters' if name.isalpha() else 'digits'}/{name}" for name in WORDS}
    for name, words in WORDS.items():
        text = said[names[name]]
        if text.casefold() not in (name, *words):
            raise ValueError(f"{names[name]} says '{text}'")
    files = [sounds / _VOICE / f"{names[name]}.wav" for name in WORDS]
    clips = [trimmed(read_sound(file, RATE), RATE, LONGEST_WORD_S) for file in files]
    return ClipSet(clips, list(range(len(clips))), [False] * len(clips))


def _transcripts(file: Path) -> Mapping[str, str]:
    """What each clip says, by its path without its ending."""
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    pairs = [line.partition(": ") for line in lines if ": " in line and not line.startswith(";")]
    return {name: text.strip() for name, _, text in pairs}


def read_sounds(package: Path) -> ClipSet:
    """Every recording of the classes, cut to LONGEST_SOUND_S."""
    found = [(label, name, i) for label, names in enumerate(SOUNDS.values()) for i, name in enumerate(names)]
    clips = [trimmed(read_sound(package / _SAMPLES / f"{n}.flac", RATE), RATE, LONGEST_SOUND_S) for _, n, _ in found]
    return ClipSet(clips, [label for label, _, _ in found], [i % _HELD_OUT == 2 for _, _, i in found])


def described(names: Mapping[str, Sequence[str]], clips: ClipSet, frame: int) -> tuple[Sound, ...]:
    """Each name with its further words, and as many frames as its longest recording has, and a little more."""
    longest = dict.fromkeys(range(len(names)), 0)
    for clip, label in zip(clips.clips, clips.labels, strict=True):
        longest[label] = max(longest[label], len(clip))
    return tuple(
        Sound(name=name, words=tuple(words), frames=math.ceil(longest[label] * _SLACK / frame))
        for label, (name, words) in enumerate(names.items())
    )
