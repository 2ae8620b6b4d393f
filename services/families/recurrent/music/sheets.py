"""Owns pictures of tunes: piano rolls, one below the other. Never sees a network."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from services.families.recurrent.music.scores import EIGHTH, Tune

_EIGHTH_WIDTH = 6  # screen pixels
_NOTE_HEIGHT = 3
_LOWEST, _HIGHEST = 53, 90  # MIDI numbers that a roll shows
_LABEL, _GAP = 16, 8
_BAR, _PART, _GROUND = "#d9d9d9", "#8a8a8a", "#f7f3ea"
_SHADES = ("#1f5fa8", "#b3541e", "#3f7d3a", "#7a3f8a")


def roll_sheet(tunes: Sequence[Tune]) -> Image.Image:
    """A roll each, with its genre, key and metre; colours tell genres apart."""
    rolls = [_roll(tune) for tune in tunes]
    sheet = Image.new("RGB", (max(r.width for r in rolls), sum(r.height + _GAP for r in rolls)), "white")
    y = 0
    for roll in rolls:
        sheet.paste(roll, (0, y))
        y += roll.height + _GAP
    return sheet


def _roll(tune: Tune) -> Image.Image:
    bar = tune.metre.bar * _EIGHTH_WIDTH // EIGHTH
    height = _LABEL + (_HIGHEST - _LOWEST) * _NOTE_HEIGHT
    image = Image.new("RGB", (len(tune.bars) * bar + 1, height), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, _LABEL, image.width, height), _GROUND)
    for i in range(len(tune.bars) + 1):
        pen.line((i * bar, _LABEL, i * bar, height), _BAR if i % 8 else _PART)
    ink = _SHADES[sum(map(ord, tune.genre)) % len(_SHADES)]
    at = 0
    for note in tune.notes:
        pitch = tune.pitch(note)
        x = at * _EIGHTH_WIDTH / EIGHTH
        at += note.ticks
        if pitch is not None:
            y = height - (pitch.midi - _LOWEST) * _NOTE_HEIGHT
            pen.rectangle((x + 1, y, at * _EIGHTH_WIDTH / EIGHTH - 1, y + _NOTE_HEIGHT - 1), ink)
    pen.text((2, 2), f"{tune.genre}, {tune.key}, {tune.metre}", fill="black")
    return image
