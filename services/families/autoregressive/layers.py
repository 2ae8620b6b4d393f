"""Owns one dilated causal layer with its gate: over whole clips, and its weights laid out for one frame at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class DilatedLayer(nn.Module):
    """z = tanh(a) sigmoid(b), (a, b) = W [x at f - dilation, x at f] + what the condition says; a kernel of two.

    What comes out goes on, added to what came in, and skips to the head (van den Oord 2016, arXiv:1609.03499).
    """

    def __init__(self, channels: int, skipped: int, dilation: int) -> None:
        super().__init__()
        self.dilation, self.channels = dilation, channels
        self.gate = nn.Linear(2 * channels, 2 * channels, bias=False)  # the condition brings a bias of its own
        self.out = nn.Linear(channels, channels + skipped)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, C), condition (B, T, 2C) -> what goes on (B, T, C), and what skips (B, T, S)."""
        past = functional.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        a, b = (self.gate(torch.cat([past, x], dim=2)) + condition).chunk(2, dim=2)
        goes_on, skips = self.out(a.tanh() * b.sigmoid()).split(
            [self.channels, self.out.out_features - self.channels], 2
        )
        return x + goes_on, skips
