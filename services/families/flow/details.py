"""Owns the flow of a scale's details, given the coarser image. Never sees a whole image."""

from __future__ import annotations

from typing import cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

DETAILS = 3  # of each coarse pixel
_MOST = 6.0  # |log scale| stays below it: details of a black ground are 100 times finer than a stroke's


class DetailConfig(BaseModel):
    """Sizes of a `DetailFlow`: channels of its layers, and how many couplings it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(ge=1)
    couplings: int = Field(ge=1)


class DetailFlow(nn.Module):
    """Affine couplings (RealNVP, Dinh 2017, arXiv:1605.08803, eq. 7 and 8) given the coarser image and the class.

    That details follow from what is coarser, scale by scale, is Wavelet Flow (Yu 2020, arXiv:2010.13821). Couplings
    keep, in turn: one colour of a checkerboard, the other, one of the three details, the other two.
    """

    def __init__(self, side: int, classes: int, config: DetailConfig) -> None:
        super().__init__()
        width = config.width
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.class_embedding = nn.Linear(classes, width, bias=False)
        self.place = nn.Parameter(torch.zeros(width, side, side))
        self.context = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.couplings = nn.ModuleList(Coupling(width) for _ in range(config.couplings))
        self.register_buffer("kept", _kept(config.couplings, side))
        self.kept: Tensor

    def forward(self, details: Tensor, coarse: Tensor, class_weights: Tensor) -> tuple[Tensor, Tensor]:
        """details (B, 3, H, W), coarse (B, 1, H, W), class_weights (B, K) -> z (B, 3, H, W), log |det| (B,)."""
        context = self._context(coarse, class_weights)
        log_det = details.new_zeros(len(details))
        for coupling, kept in zip(self.couplings, self.kept, strict=True):
            details, change = coupling(details, context, kept)
            log_det = log_det + change
        return details, log_det

    def inverse(self, z: Tensor, coarse: Tensor, class_weights: Tensor) -> Tensor:
        context = self._context(coarse, class_weights)
        for coupling, kept in reversed(list(zip(self.couplings, self.kept, strict=True))):
            z = cast(Coupling, coupling).inverse(z, context, kept)
        return z

    def _context(self, coarse: Tensor, class_weights: Tensor) -> Tensor:
        """(B, width, H, W)."""
        x = self.enter(coarse) + self.class_embedding(class_weights)[:, :, None, None] + self.place
        for layer in self.context:
            x = x + layer(functional.relu(x))
        return functional.relu(x)


class Coupling(nn.Module):
    """z = (x - shift) / scale of the details that move; shift and scale are functions of those that are kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.see_kept = nn.Conv2d(DETAILS, width, 3, padding=1)
        self.see_context = nn.Conv2d(width, width, 1)
        self.hidden = nn.Conv2d(width, width, 1)
        self.leave = nn.Conv2d(width, 2 * DETAILS, 3, padding=1)
        nn.init.zeros_(self.leave.weight)  # begins as the identity
        nn.init.zeros_(self.leave.bias)  # pyright: ignore[reportArgumentType] - it has a bias

    def forward(self, x: Tensor, context: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), kept bool (3, H, W) -> z of the same shape, log |det dz/dx| (B,)."""
        shift, log_scale = self._affine(x, context, kept)
        z = torch.where(kept, x, (x - shift) * (-log_scale).exp())
        return z, -log_scale.masked_fill(kept, 0.0).flatten(1).sum(dim=1)

    def inverse(self, z: Tensor, context: Tensor, kept: Tensor) -> Tensor:
        shift, log_scale = self._affine(z, context, kept)
        return torch.where(kept, z, z * log_scale.exp() + shift)

    def _affine(self, x: Tensor, context: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.see_kept(x.masked_fill(~kept, 0.0)) + self.see_context(context)
        shift, raw = self.leave(functional.relu(self.hidden(functional.relu(seen)))).chunk(2, dim=1)
        return shift, _MOST * torch.tanh(raw / _MOST)


def _kept(couplings: int, side: int) -> Tensor:
    """bool (couplings, 3, side, side)."""
    at = torch.arange(side)
    even = ((at[:, None] + at[None, :]) % 2 == 0).expand(DETAILS, side, side)
    first = (torch.arange(DETAILS) == 0)[:, None, None].expand(DETAILS, side, side)
    turns = (even, ~even, first, ~first)
    return torch.stack([turns[i % len(turns)] for i in range(couplings)])
