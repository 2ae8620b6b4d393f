"""Owns the latent ODE: reader, dynamics, decoder. Never sees a request, nor a solver's grid."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from services.families.neural_ode.series.scaling import FEATURES
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-ode-series"
_SLOWEST, _FASTEST = 0.05, 1.0  # radians a mean interval: the oscillators' own frequencies
# How far a series may change them, in logarithms, and how fast an oscillation may fade, a mean interval: within these
# bounds a step of two intervals is still stable.
_SWING, _FADING = 0.7, 0.3


class SeriesConfig(ModelShape):
    """Content of config.json. A latent is 2 * `oscillators` numbers that move, and `static` ones that do not.

    `horizon` and `max_step` are in mean intervals of a series: how far it may be told, and the solver's widest step.
    """

    model_type: Literal["castalia-ode-series"] = MODEL_TYPE
    hidden: int = Field(ge=1)
    oscillators: int = Field(ge=1)
    static: int = Field(ge=1)
    width: int = Field(ge=1)
    min_points: int = Field(ge=2)
    max_points: int = Field(ge=2)
    horizon: float = Field(gt=0)
    max_step: float = Field(gt=0)

    @property
    def moving(self) -> int:
        return 2 * self.oscillators

    @property
    def latent(self) -> int:
        return self.moving + self.static


class LatentOde(nn.Module):
    """A recurrent reader of irregular observations, a latent that an ODE moves, a Gaussian for each time.

    The latent is drawn at the last observation, and moves on from there (Rubanova 2019, arXiv:1907.03907, section 3,
    where it is drawn at the first). The reader is a GRU that is told the time since the observation before ("RNN dt").
    The field is a set of damped oscillators, whose rates the static part sets, and a network beside them.
    """

    frequencies: Tensor  # (K,)

    def __init__(self, config: SeriesConfig) -> None:
        super().__init__()
        self.config = config
        k = config.oscillators
        self.reader = nn.GRU(FEATURES, config.hidden, batch_first=True)
        self.to_latent = nn.Linear(config.hidden, 2 * config.latent)
        # Evenly spaced in logarithms, so that some oscillator is near any period.
        frequencies = torch.linspace(math.log(_SLOWEST), math.log(_FASTEST), k).exp()
        self.register_buffer("frequencies", frequencies, persistent=True)
        self.rates = nn.Linear(config.static, 2 * k)
        self.field = _two_layers(config, config.moving)
        self.decoder = _two_layers(config, 2)

    def read(self, observations: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, 3), of which `lengths` (B,) count -> the latent's means and deviations, both (B, Z)."""
        packed = observations
        if lengths is not None:
            packed = pack_padded_sequence(observations, lengths, batch_first=True, enforce_sorted=False)
        _, hidden = self.reader(packed)
        mean, spread = self.to_latent(hidden[0]).chunk(2, dim=1)
        return mean, nn.functional.softplus(spread)

    def forward(self, latent: Tensor, time: Tensor) -> Tensor:
        """d latent / d time (P, Z), the same at all times."""
        k, config = self.config.oscillators, self.config
        moving, static = latent.split([config.moving, config.static], dim=1)
        swing, decay = self.rates(static).chunk(2, dim=1)
        frequency = self.frequencies * (_SWING * swing.tanh()).exp()  # (P, K)
        damping = _FADING * torch.sigmoid(decay - 3)
        first, second = moving.split(k, dim=1)
        turned = torch.cat([-frequency * second - damping * first, frequency * first - damping * second], dim=1)
        return torch.cat([turned + 0.1 * self.field(latent), torch.zeros_like(static)], dim=1)

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(..., Z) -> a value's mean and deviation, both (...)."""
        mean, spread = self.decoder(latent).unbind(-1)
        return mean, nn.functional.softplus(spread) + 1e-3


def _two_layers(config: SeriesConfig, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(config.latent, config.width), nn.Tanh(), nn.Linear(config.width, out))
