"""Owns a tune as a Standard MIDI File of one track. Never reads one."""

from __future__ import annotations

import io

from mido import Message, MetaMessage, MidiFile, MidiTrack, bpm2tempo

from services.families.recurrent.music.scores import EIGHTH, Tune

TICKS = 10  # of MIDI, to one of ours: 480 to a quarter note
_FIDDLE = 40  # General MIDI's violin
_STRONG, _WEAK = 96, 80  # velocities, on the beat and off it


def write_midi(tune: Tune) -> bytes:
    """Type 0, with metre, key and tempo; it ends with the last bar, whatever is in it.

    The key is the major or minor one of the same signature, as the format knows no others.
    """
    track = MidiTrack()
    quarters = float(tune.tempo * tune.metre.beat * 4)
    track.append(MetaMessage("track_name", name=tune.title))
    track.append(MetaMessage("set_tempo", tempo=round(bpm2tempo(quarters))))
    clocks = 36 if tune.metre.is_compound else 24  # of 24 to a quarter, between two beats of a metronome
    track.append(
        MetaMessage(
            "time_signature",
            numerator=tune.metre.beats,
            denominator=tune.metre.unit,
            clocks_per_click=clocks,
            notated_32nd_notes_per_beat=8,
        )
    )
    track.append(MetaMessage("key_signature", key=tune.key.midi_name))
    track.append(Message("program_change", program=_FIDDLE))
    waited, at = 0, 0
    for note in tune.notes:
        pitch = tune.pitch(note)
        if pitch is None:
            waited += note.ticks
        else:
            velocity = _STRONG if at % tune.metre.bar % tune.metre.group == 0 else _WEAK
            track.append(Message("note_on", note=pitch.midi, velocity=velocity, time=waited * TICKS))
            track.append(Message("note_off", note=pitch.midi, velocity=0, time=note.ticks * TICKS))
            waited = 0
        at += note.ticks
    track.append(MetaMessage("end_of_track", time=waited * TICKS))
    file = io.BytesIO()
    MidiFile(type=0, ticks_per_beat=2 * EIGHTH * TICKS, tracks=[track]).save(file=file)
    return file.getvalue()
