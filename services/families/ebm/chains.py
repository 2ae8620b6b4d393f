"""Owns the chains that a training keeps from step to step (Tieleman 2008; Du & Mordatch 2019, arXiv:1903.08689)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Chains(nn.Module):
    """The replay buffer: images (N, C, H, W) with noise, each of a class of its own.

    A module without weights, so that the training loop's checkpoints hold it and a resumed run goes on with the same
    chains. The loop averages float buffers over workers, and a mean of chains is none: so it is kept as the floats'
    bits. Several workers go on with chains of their own; resumed, all of them do with the first worker's.
    """

    bits: Tensor
    labels: Tensor

    def __init__(self, start: Tensor, labels: Tensor) -> None:
        """start: float32 (N, C, H, W). labels: int64 (N,)."""
        super().__init__()
        self.register_buffer("bits", start.clone().view(torch.int32))
        self.register_buffer("labels", labels.clone())

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Tensor) -> Tensor:
        """float32 (B, C, H, W)."""
        return self.bits[indices].view(torch.float32)

    def put(self, indices: Tensor, images: Tensor) -> None:
        """Replace the chains at `indices` (B,), all of them different."""
        self.bits[indices] = images.detach().float().view(torch.int32)
