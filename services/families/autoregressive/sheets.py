"""Owns the pictures of the models' cards: spectrograms with their waveforms below them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from services.families.autoregressive.drawing import draw_clips
from services.families.autoregressive.model import WaveNet

_POINTS, _HOP = 256, 64  # of the Fourier transforms, in samples
_FLOOR_DB = 70.0  # what is softer than the loudest by more is black
_WAVE = 36  # pixels of a waveform's height
_GAP, _LABEL_WIDTH = 6, 96


def tile(clip: Tensor, width: int) -> Image.Image:
    """A clip float32 (samples,) in [-1, 1] from the left, a column of pixels a hop; cut, or black, at `width`."""
    bands = _POINTS // 2
    picture = np.zeros((bands + _WAVE, width), np.uint8)
    padded = torch.nn.functional.pad(clip, (0, _POINTS))
    window = torch.hann_window(_POINTS)
    spectrum = torch.stft(padded, _POINTS, _HOP, window=window, pad_mode="constant", return_complex=True).abs()
    loud = 20 * torch.log10(spectrum[:bands].clamp(min=1e-8))
    shades = ((loud - loud.max()) / _FLOOR_DB + 1).clamp(0, 1) * 255
    columns = min(width, shades.shape[1])
    picture[:bands, :columns] = shades.flip(0).byte().numpy()[:, :columns]
    for x in range(min(width, len(clip) // _HOP)):
        part = clip[x * _HOP : (x + 1) * _HOP]
        top, bottom = (round((1 - value) / 2 * (_WAVE - 1)) for value in (part.max().item(), part.min().item()))
        picture[bands + top : bands + bottom + 1, x] = 200
    return Image.fromarray(picture)


def clip_sheet(clips: Sequence[Sequence[Tensor]], labels: Sequence[str], rate: int) -> Image.Image:
    """A row of clips a label; all tiles are as wide as the longest clip."""
    width = max(len(clip) for row in clips for clip in row) // _HOP + 1
    height = _POINTS // 2 + _WAVE + _GAP
    columns = max(len(row) for row in clips)
    sheet = Image.new("RGB", (_LABEL_WIDTH + columns * (width + _GAP), len(clips) * height + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for y, (row, label) in enumerate(zip(clips, labels, strict=True)):
        pen.text((4, y * height + height // 2 - 5), label, fill="black")
        for x, clip in enumerate(row):
            sheet.paste(tile(clip, width), (_LABEL_WIDTH + x * (width + _GAP), y * height + _GAP))
    return sheet


def sample_sheet(model: WaveNet) -> Image.Image:
    """What to look at while a model learns: a few of its sounds, twice each."""
    sounds = model.config.sounds
    shown = range(0, len(sounds), max(1, len(sounds) // 4))
    drawn = draw_clips(model, [label for label in shown for _ in range(2)], temperature=0.8)
    rows = [drawn[2 * i : 2 * i + 2] for i in range(len(shown))]
    return clip_sheet(rows, [sounds[label].name for label in shown], model.config.rate)
