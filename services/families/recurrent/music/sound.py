"""Owns the sound of a tune: a plucked string, made of sines, or FluidSynth with a soundfont where there is one."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.families.recurrent.music.midi import write_midi
from services.families.recurrent.music.scores import Tune
from services.nn.errors import UnsupportedModel
from shared.errors import InternalError

RATE = 22050  # samples a second
_PARTIALS = 8
_ATTACK, _RING = 0.004, 0.25  # seconds: how long a note takes to begin, and how long it sounds on after its end
_PEAK = 0.8
_PROGRAM = "fluidsynth"
_PATIENCE = 60  # seconds


class Instrument(Protocol):
    def play(self, tune: Tune) -> bytes:
        """A WAV file of 16 bits and RATE. Takes up to some tenths of a second: run it on a worker thread."""
        ...


@dataclass(frozen=True, slots=True)
class PluckedString:
    """Additive synthesis: partial k of a note is 1/k as loud, and dies away k times as fast as the slowest. Mono."""

    def play(self, tune: Tune) -> bytes:
        sound = np.zeros(round((tune.seconds + _RING) * RATE) + 1, np.float32)
        at = 0
        for note in tune.notes:
            pitch = tune.pitch(note)
            start = round(tune.metre.seconds(at, tune.tempo) * RATE)
            at += note.ticks
            if pitch is not None:
                heard = _note(pitch.midi, tune.metre.seconds(note.ticks, tune.tempo))[: len(sound) - start]
                sound[start : start + len(heard)] += heard
        peak = float(np.abs(sound).max(initial=1e-9))
        return _wav((sound / peak * _PEAK * 32767).astype("<i2"))


@dataclass(frozen=True, slots=True)
class FluidSynth:
    """The program `fluidsynth` with a soundfont that the operator has installed. Stereo."""

    program: str
    soundfont: Path

    @classmethod
    def with_soundfont(cls, soundfont: Path) -> FluidSynth:
        """Raises UnsupportedModel where the program or the soundfont is missing."""
        program = shutil.which(_PROGRAM)
        if program is None:
            raise UnsupportedModel("soundfont", f"the program `{_PROGRAM}` is not on the PATH: install it")
        if not soundfont.is_file():
            raise UnsupportedModel("soundfont", f"there is no file {soundfont}")
        return cls(program, soundfont)

    def play(self, tune: Tune) -> bytes:
        """Raises InternalError where the program fails."""
        with tempfile.TemporaryDirectory() as folder:
            midi, wav = Path(folder, "tune.mid"), Path(folder, "tune.wav")
            midi.write_bytes(write_midi(tune))
            words = [self.program, "-ni", "-q", "-r", str(RATE), "-F", str(wav), str(self.soundfont), str(midi)]
            try:
                subprocess.run(words, check=True, capture_output=True, timeout=_PATIENCE)  # noqa: S603 - ours
                return wav.read_bytes()
            except (OSError, subprocess.SubprocessError) as error:
                raise InternalError from error


def _note(midi: int, seconds: float) -> NDArray[np.float32]:
    """A string at 440 Hz for MIDI's 69, let go after `seconds`."""
    time = np.arange(round((seconds + _RING) * RATE), dtype=np.float32) / RATE
    pitch = 440.0 * 2 ** ((midi - 69) / 12)
    heard = np.zeros_like(time)
    for k in range(1, _PARTIALS + 1):
        if k * pitch < RATE / 2:
            heard += np.sin(2 * np.pi * k * pitch * time) * np.exp(-time * (1.2 + 1.5 * k)) / k
    begun = np.minimum(time / _ATTACK, 1)
    ended = np.clip(1 - (time - seconds) / _RING, 0, 1)
    return (heard * begun * ended**2).astype(np.float32)


def _wav(samples: NDArray[np.int16]) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return file.getvalue()
