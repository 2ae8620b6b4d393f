"""Owns what clips sound like in numbers, and a judge by them: the class of the nearest real recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from services.families.autoregressive.clips import ClipSet

_POINTS, _HOP = 256, 64  # of the Fourier transforms, in samples
_BANDS, _TIMES = 24, 24
_FLOOR = 1e-3  # of the loudest: softer is as good as silent


def features(clip: Tensor, longest: int) -> Tensor:
    """Loudness in decibels by band and time, float32 (BANDS * TIMES,), of a clip filled up to `longest` samples.

    Its own loudest point is 0 dB, so that gain does not count.
    """
    filled = torch.nn.functional.pad(clip[:longest], (0, longest - len(clip[:longest])))
    window = torch.hann_window(_POINTS)
    spectrum = torch.stft(filled, _POINTS, _HOP, window=window, pad_mode="constant", return_complex=True).abs()
    pooled = torch.nn.functional.adaptive_avg_pool2d(_bands(spectrum)[None], (_BANDS, _TIMES))[0]
    return (20 * torch.log10(pooled / pooled.max().clamp(min=1e-9) + _FLOOR)).flatten()


def _bands(spectrum: Tensor) -> Tensor:
    """(F, T) -> (BANDS, T): bands that grow wider with frequency, as hearing's do."""
    edges = (torch.logspace(0.3, 2.107, _BANDS + 1)).round().long()  # from 2 to 128
    edges = torch.maximum(edges, torch.arange(2, _BANDS + 3))
    return torch.stack([spectrum[a:b].mean(0) for a, b in pairwise(edges.tolist())])


@dataclass(frozen=True, slots=True, eq=False)
class SpectralJudge:
    """Says of a clip the label of the nearest recording. `known` (N, BANDS * TIMES), `labels` (N,)."""

    known: Tensor
    labels: Tensor
    longest: int

    def nearest(self, clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Labels int64 (M,), and how far the nearest recordings are (M,)."""
        distances, places = torch.cdist(self.features(clips), self.known).min(1)
        return self.labels[places], distances

    def accuracy(self, clips: Sequence[Tensor], labels: Sequence[int]) -> float:
        return (self.nearest(clips)[0] == torch.tensor(list(labels))).float().mean().item()

    def features(self, clips: Sequence[Tensor]) -> Tensor:
        return torch.stack([features(clip, self.longest) for clip in clips])


def make_judge(real: ClipSet) -> SpectralJudge:
    longest = max(len(clip) for clip in real.clips)
    known = torch.stack([features(clip, longest) for clip in real.clips])
    return SpectralJudge(known, torch.tensor(list(real.labels)), longest)
