"""Owns sets of clips on disk and in memory, and what is done to sound on its way in: rates, edges, loudness.

Knows no data set by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from services.families.autoregressive.model import Clips
from services.families.autoregressive.mulaw import SILENCE, to_codes

CLIPS = "clips.safetensors"
SAMPLE, SAMPLED = "sample.safetensors", 3  # recordings that lie beside the weights
_QUIET = 0.006  # of the peak: what is below at the edges is cut off
_BEFORE_S, _AFTER_S, _FADE_S = 0.01, 0.03, 0.02  # what is left of the edges, and how long a cut end fades
_PEAK = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class ClipSet:
    """Clips float32 (samples,) in [-1, 1], of what label each, and which are held out."""

    clips: Sequence[Tensor]
    labels: Sequence[int]
    held_out: Sequence[bool]

    def part(self, *, held_out: bool) -> ClipSet:
        return self.take([i for i, out in enumerate(self.held_out) if out is held_out])

    def take(self, places: Sequence[int]) -> ClipSet:
        return ClipSet(
            [self.clips[i] for i in places], [self.labels[i] for i in places], [self.held_out[i] for i in places]
        )

    def __len__(self) -> int:
        return len(self.clips)


def read_sound(path: Path, rate: int) -> Tensor:
    """A file's first channels' mean, float32 (samples,), at `rate`."""
    samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    mono = torch.from_numpy(samples).mean(1)
    return resampled(mono, round(len(mono) * rate / own))


def resampled(samples: Tensor, length: int) -> Tensor:
    """The same sound in `length` samples, band-limited, by its Fourier transform.

    As much silence on either side keeps its ends apart, and puts its first sample where one of the new ones is.
    """
    before, after = len(samples), 3 * length
    spectrum = torch.fft.rfft(torch.nn.functional.pad(samples.double(), (before, before)))
    whole = torch.fft.irfft(spectrum[: after // 2 + 1], n=after) * (length / before)
    return whole[length : 2 * length].float()


def trimmed(samples: Tensor, rate: int, longest_s: float) -> Tensor:
    """Without silence at its edges, its peak at 0.8, and faded out where it is longer than `longest_s`."""
    peak = samples.abs().max()
    loud = (samples.abs() > _QUIET * peak).nonzero()[:, 0]
    first = max(0, int(loud[0]) - round(_BEFORE_S * rate))
    last = min(int(loud[-1]) + round(_AFTER_S * rate), first + round(longest_s * rate))
    out = samples[first:last] * (_PEAK / peak)
    fade = min(round(_FADE_S * rate), len(out))
    return torch.cat([out[:-fade], out[-fade:] * torch.linspace(1, 0, fade)])


def collated(clips: Sequence[Tensor], labels: Sequence[int], frame: int) -> Clips:
    """Codes of clips, each filled up with silence to whole frames, and to the longest of them."""
    frames = [-(-len(clip) // frame) for clip in clips]
    codes = torch.full((len(clips), max(frames) * frame), SILENCE)
    for row, clip in zip(codes, clips, strict=True):
        row[: len(clip)] = to_codes(clip)
    return Clips(codes, torch.tensor(frames), torch.tensor(labels))


def write_clips(folder: Path, clips: ClipSet, name: str = CLIPS) -> None:
    """As 16-bit samples, one clip after the other."""
    pieces = [(clip * 32767).round().clamp(-32768, 32767).to(torch.int16) for clip in clips.clips]
    tensors = {
        "samples": torch.cat(pieces),
        "lengths": torch.tensor([len(piece) for piece in pieces]),
        "labels": torch.tensor(list(clips.labels)),
        "held_out": torch.tensor(list(clips.held_out)),
    }
    (folder / name).write_bytes(save(tensors))


def read_clips(folder: Path, name: str = CLIPS) -> ClipSet:
    found = load_file(folder / name)
    pieces = (found["samples"].float() / 32767).split(found["lengths"].tolist())
    return ClipSet(list(pieces), found["labels"].tolist(), found["held_out"].tolist())
