"""Owns the network over whole clips: codes to logits of every sample, and of the clip's end. Never sees a request."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from services.families.autoregressive.layers import DilatedLayer
from services.families.autoregressive.mulaw import CODES, SILENCE, levels
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-wavenet"


class Sound(BaseModel):
    """What can be asked for: its name, further names for it, and the most frames that a clip of it may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    words: tuple[str, ...] = ()
    frames: int = Field(ge=1)


class WaveNetConfig(ModelShape):
    """Content of config.json. A frame is `frame` samples, of which there are `rate` a second.

    `channels` of a layer, `skipped` to the head, `hidden` in it; it sees `window` samples, each as `features` numbers.
    A clip is told its place by a vector of `place` numbers every `stride` frames.
    """

    model_type: Literal["castalia-wavenet"] = MODEL_TYPE
    kind: Literal["speech", "sound"]
    sounds: Annotated[tuple[Sound, ...], Field(min_length=1)]
    voice: str = ""
    rate: int = Field(default=8000, ge=1)
    frame: int = Field(ge=1)
    channels: int = Field(ge=1)
    skipped: int = Field(ge=1)
    hidden: int = Field(ge=1)
    window: int = Field(ge=1)
    features: int = Field(ge=2)
    place: int = Field(ge=1)
    stride: int = Field(ge=1)
    dilations: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _speech_has_a_voice(self) -> WaveNetConfig:
        if (self.kind == "speech") != bool(self.voice):
            raise ValueError("a model of speech, and no other, has a voice")
        return self

    @property
    def frames(self) -> int:
        """The most that any clip has."""
        return max(sound.frames for sound in self.sounds)

    @property
    def places(self) -> int:
        return self.frames // self.stride + 2

    @property
    def receptive(self) -> int:
        """Samples that the layers see before a frame."""
        return (1 + sum(self.dilations)) * self.frame


class Clips(NamedTuple):
    """A batch: codes int64 (B, T * frame), whose frames past `frames` int64 (B,) are filled up; labels int64 (B,)."""

    codes: Tensor
    frames: Tensor
    labels: Tensor


class Logits(NamedTuple):
    """`codes` (N, frame, 256): of the N true frames of a batch, clip after clip. `end` (B, T + 1): at each frame."""

    codes: Tensor
    end: Tensor


class WaveNet(nn.Module):
    """p(clip | c) = prod_f p(no end before f | x_<f, c) prod_j p(x_fj | x_<fj, c), then p(end): exact.

    Gated dilated causal convolutions (van den Oord 2016, arXiv:1609.03499, eq. 2 and 3) over frames of samples, the
    class and the place in the clip in every gate and in the head; and, for a frame's samples one after the other, a
    causal convolution over the last `window` samples that is told what the layers saw: two rates, as in SampleRNN
    (Mehri 2016, arXiv:1612.07837). So the deep stack runs once a frame, and the shallow one once a sample.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        frame, skipped, hidden = config.frame, config.skipped, config.hidden
        self.look = nn.Parameter(_first_look(config.features))  # of a code, what the network sees
        self.place = nn.Parameter(torch.empty(len(config.sounds), config.places, config.place).uniform_(-0.5, 0.5))
        self.to_channels = nn.Linear(frame * config.features, config.channels)
        self.conditions = nn.Linear(config.place, len(config.dilations) * 2 * config.channels)
        self.layers = nn.ModuleList(DilatedLayer(config.channels, skipped, dilation) for dilation in config.dilations)
        self.end = nn.Linear(skipped + config.place, 1)
        self.to_frame = nn.Linear(skipped + config.place, frame * hidden)
        self.recent = nn.Linear(config.window * config.features, hidden, bias=False)
        self.to_logits = nn.Linear(hidden, CODES)

    @property
    def dilated(self) -> list[DilatedLayer]:
        return cast(list[DilatedLayer], list(self.layers))

    def forward(self, clips: Clips, heard: Tensor | None = None) -> Logits:
        """`heard` int64 (B, T * frame): codes that are read in place of the clips', where these are noisy."""
        config = self.config
        seen = self.look[clips.codes if heard is None else heard]  # (B, T * frame, features)
        count, frames = len(seen), seen.shape[1] // config.frame
        before = self.silence(count, config.frame)  # nothing precedes a clip
        inputs = torch.cat([before, seen], dim=1).view(count, frames + 1, -1)
        at = torch.arange(frames + 1, device=seen.device)[None]
        known = self.deep(inputs, self.places_at(clips.labels[:, None], at))
        true = at[:, :-1] < clips.frames[:, None]  # (B, T)
        return Logits(self._samples(known[:, :-1][true], seen, true), self.end(known)[..., 0])

    def deep(self, inputs: Tensor, places: Tensor) -> Tensor:
        """inputs (B, T, frame * features), places (B, T, P) -> what the head is told of a frame (B, T, S + P)."""
        x = self.to_channels(inputs)
        skipped = x.new_zeros(*x.shape[:2], self.config.skipped)
        for layer, condition in zip(self.dilated, self.conditions(places).chunk(len(self.layers), dim=2), strict=True):
            x, skip = layer(x, condition)
            skipped = skipped + skip
        return torch.cat([skipped.relu(), places], dim=2)

    def places_at(self, labels: Tensor, frames: Tensor) -> Tensor:
        """Of what class and at which frame, int64 that broadcast to (B, T): a vector (B, T, P) for each."""
        last, stride = self.config.frames, self.config.stride
        at = frames.clamp(max=last)
        first, part = at // stride, (at % stride / stride).unsqueeze(-1).to(self.place.dtype)
        near, far = self.place[labels, first], self.place[labels, first + 1]
        return near + (far - near) * part

    def silence(self, count: int, samples: int) -> Tensor:
        """(count, samples, features)"""
        return self.look[SILENCE].expand(count, samples, -1)

    def _samples(self, known: Tensor, seen: Tensor, true: Tensor) -> Tensor:
        """known (N, S + P) of the true frames, seen (B, T * frame, F) -> logits (N, frame, 256)."""
        config = self.config
        told = self.to_frame(known).view(-1, config.frame, config.hidden)
        padded = torch.cat([self.silence(len(seen), config.window), seen], dim=1)[:, :-1]
        around = padded.unfold(1, config.window + config.frame - 1, config.frame)[true]  # (N, F, window + frame - 1)
        windows = around.unfold(2, config.window, 1).permute(0, 2, 3, 1).flatten(2)  # (N, frame, window * F)
        return self.to_logits((told + self.recent(windows)).relu())


def _first_look(features: int) -> Tensor:
    """What is learnt begins as the code's place in 256, its level, and random numbers.

    On the CPU even where a model is made on the meta device: arithmetic there would import seconds' worth of torch.
    """
    bent = torch.linspace(-1, 1, CODES, device="cpu")[:, None]
    return torch.cat([bent, levels()[:, None], torch.randn(CODES, features - 2, device="cpu") * 0.1], dim=1)


def log_likelihood(model: WaveNet, clips: Clips) -> Tensor:
    """ln p(clip | class) in nats, float64 (B,): of its samples and of its end where it is."""
    logits = model(clips)
    count, frames = clips.codes.shape[0], clips.codes.shape[1] // model.config.frame
    true = torch.arange(frames, device=clips.frames.device)[None] < clips.frames[:, None]
    codes = clips.codes.view(count, frames, -1)[true]  # (N, frame)
    of_frames = -functional.cross_entropy(logits.codes.double().flatten(0, 1), codes.flatten(), reduction="none")
    sums = of_frames.view(len(codes), -1).sum(1)
    whole = torch.zeros(count, dtype=torch.float64, device=sums.device).index_add(0, true.nonzero()[:, 0], sums)
    return whole + end_log_likelihood(logits.end, clips.frames)


def end_log_likelihood(end: Tensor, frames: Tensor) -> Tensor:
    """ln p of ending before frame `frames` (B,) and not earlier, float64 (B,); end (B, T + 1) are logits."""
    at = torch.arange(end.shape[1], device=end.device)[None]
    goes_on = functional.logsigmoid(-end.double()).where(at < frames[:, None], 0.0).sum(1)
    return goes_on + functional.logsigmoid(end.double().gather(1, frames[:, None]))[:, 0]
