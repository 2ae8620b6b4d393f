"""Owns the drawing of the next frames of many clips together: the dilated stack once a frame, the head once a sample.

What the layers need of the past is kept in queues (Fast WaveNet, Le Paine 2016, arXiv:1611.09482), so that a frame
costs the same wherever in its clip it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.autoregressive.model import WaveNet


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What the next frame of a clip needs of the frames before it.

    queues (D, C): of each layer its last `dilation` inputs, oldest first, one layer after the other. recent (window,
    F): the last samples as the network sees them; at least a frame of them are kept.
    """

    queues: Tensor
    recent: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class FrameOrder:
    """The next N frames of each of B clips.

    label, at int64 (B,): of what class, and how many frames are drawn already. temperature (B,). gumbel (N, B, frame,
    256): what each sample is drawn by. uniform float64 (B, N) in [0, 1): what each end is.
    """

    heard: Sequence[Heard]
    label: Tensor
    at: Tensor
    temperature: Tensor
    gumbel: Tensor
    uniform: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class DrawnFrames:
    """codes int64 (N, frame) on the CPU; how many frames precede the end, N if there is none; what follows needs."""

    codes: Tensor
    ended_at: int
    heard: Heard
    finite: bool


def nothing_heard(model: WaveNet) -> Heard:
    """Before a clip's first frame. A layer pads its input with zeros there."""
    config = model.config
    kept = max(config.window, config.frame)
    return Heard(model.look.new_zeros(sum(config.dilations), config.channels), model.silence(1, kept)[0])


def draw_frames(model: WaveNet, order: FrameOrder) -> list[DrawnFrames]:
    """The next frames of every clip, of equal or of different lengths. Changes no tensor of the order in place.

    A clip that ends is drawn on to the last of the frames, and cut at its end by the caller.
    """
    count, frames = order.uniform.shape
    queues = _Queues(model, torch.stack([heard.queues for heard in order.heard]), frames)
    head = _Head(model, torch.stack([heard.recent for heard in order.heard]), frames)
    spread = order.gumbel * order.temperature[:, None, None]
    at = order.at[:, None] + torch.arange(frames, device=order.at.device)
    places = model.places_at(order.label[:, None], at)  # (B, N, P)
    conditions = model.conditions(places)  # (B, N, L * 2C)
    told: list[Tensor] = []
    sound: list[Tensor] = []
    for i in range(frames):
        skipped = queues.advance(i, head.last_frame(i), conditions[:, i])
        told.append(torch.cat([skipped, places[:, i]], dim=1))
        sound.append(head.draw(i, told[-1], spread[i]))
    ends = model.end(torch.stack(told, dim=1))[..., 0]  # (B, N)
    ended = _ended_at(ends, order.temperature, order.uniform)
    codes = head.codes.cpu().view(count, frames, -1)
    finite = (torch.stack(sound).isfinite().all(0) & ends.isfinite().all(1)).tolist()
    kept = zip(queues.last(), head.last(), strict=True)
    return [
        DrawnFrames(codes[i], end, Heard(*after), whole)
        for i, (end, after, whole) in enumerate(zip(ended, kept, finite, strict=True))
    ]


class _Queues:
    """The dilated stack's past: of each layer (dilation + N, B, C), to which its inputs are appended as they come."""

    def __init__(self, model: WaveNet, queues: Tensor, frames: int) -> None:
        """queues (B, D, C)"""
        self._model, self._frames = model, frames
        self._dilations = model.config.dilations
        by_time = queues.transpose(0, 1)
        room = queues.new_empty(frames, *by_time.shape[1:])
        self._kept = [torch.cat([part, room]) for part in by_time.split(self._dilations)]
        self._weights = [
            (layer.gate.weight.t(), layer.out.weight.t(), layer.out.bias, layer.dilation) for layer in model.dilated
        ]

    def advance(self, i: int, frame: Tensor, condition: Tensor) -> Tensor:
        """Take in the frame (B, frame * F) before the i-th of these -> what is skipped to the head (B, S)."""
        channels = self._model.config.channels
        x = self._model.to_channels(frame)
        told = condition.chunk(len(self._kept), dim=1)
        skipped: Tensor | None = None
        for kept, (gate, out, bias, dilation), tell in zip(self._kept, self._weights, told, strict=True):
            kept[dilation + i] = x
            ab = torch.addmm(tell, torch.cat([kept[i], x], dim=1), gate)
            both = torch.addmm(bias, ab[:, :channels].tanh() * ab[:, channels:].sigmoid(), out)
            x = x + both[:, :channels]
            skipped = both[:, channels:] if skipped is None else skipped + both[:, channels:]
        assert skipped is not None  # there is a layer, by the configuration
        return skipped.relu()

    def last(self) -> Sequence[Tensor]:
        """What the frame after these needs, a (D, C) a clip."""
        return torch.cat([kept[self._frames :] for kept in self._kept]).transpose(0, 1).contiguous().unbind()


class _Head:
    """The shallow network of a frame's samples, and the samples so far, as the network sees them."""

    def __init__(self, model: WaveNet, recent: Tensor, frames: int) -> None:
        """recent (B, kept, F)"""
        self._model = model
        self._count, self._kept, self._features = recent.shape
        self._frame, self._window = model.config.frame, model.config.window
        room = recent.new_empty(self._count, frames * self._frame, self._features)
        self._seen = torch.cat([recent, room], dim=1).flatten(1)  # (B, (kept + N * frame) * F)
        self.codes = torch.empty(self._count, frames * self._frame, dtype=torch.int64, device=recent.device)
        # The convolution reads a window's features one after the other, sample by sample.
        self._recent, self._logits = model.recent.weight.t(), model.to_logits.weight.t()

    def last_frame(self, i: int) -> Tensor:
        """The frame before the i-th of these, (B, frame * F)."""
        return self._between(self._kept + (i - 1) * self._frame, self._frame)

    def draw(self, i: int, known: Tensor, spread: Tensor) -> Tensor:
        """The samples of frame i, of which known (B, S + P). spread (B, frame, 256): Gumbel's noise, by temperature.

        The code of the largest logit with such noise is drawn from softmax(logits / temperature). -> the sums of
        each clip's last logits (B,), which tell whether they are finite.
        """
        model, features = self._model, self._features
        told = model.to_frame(known).view(self._count, self._frame, -1)
        logits = told  # no frame is empty
        for j in range(self._frame):
            at = self._kept + i * self._frame + j
            hidden = torch.addmm(told[:, j], self._between(at - self._window, self._window), self._recent).relu_()
            logits = torch.addmm(model.to_logits.bias, hidden, self._logits)
            code = (logits + spread[:, j]).argmax(1)
            self.codes[:, at - self._kept] = code
            self._seen[:, at * features : (at + 1) * features] = model.look[code]
        return logits.sum(1)

    def last(self) -> Sequence[Tensor]:
        """The last samples, a (kept, F) a clip."""
        return self._seen.view(self._count, -1, self._features)[:, -self._kept :].clone().unbind()

    def _between(self, first: int, samples: int) -> Tensor:
        return self._seen[:, first * self._features : (first + samples) * self._features]


def _ended_at(ends: Tensor, temperature: Tensor, uniform: Tensor) -> list[int]:
    """Before which of the N frames each clip ends, N if before none. ends (B, N), logits."""
    chance = (ends.double() / temperature[:, None]).sigmoid()
    ended = uniform < chance
    frames = ends.shape[1]
    first = torch.where(ended, torch.arange(frames, device=ends.device), frames).amin(1)
    return first.tolist()
