"""Owns the flow-matching loss of the embedded model, and the fixed draws that it is measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from services.families.diffusion.captions import Captions, pad
from services.families.diffusion.emoji_data import Emoji
from services.nn.rng import row_generator

Batch = tuple[Tensor, Tensor, Tensor]  # images (B, 3, 32, 32), caption ids and mask (B, L)


def flow_loss(denoiser: nn.Module, batch: Batch, noise: Tensor, times: Tensor) -> Tensor:
    """Mean of |v(x_t, t) - (eps - x_0)|^2 with x_t = (1 - t) x_0 + t eps (Lipman et al. 2022, eq. 23).

    noise eps (B, 3, 32, 32) is standard normal, times t (B,) in [0, 1].
    """
    images, ids, mask = batch
    t = times[:, None, None, None]
    velocity = denoiser((1 - t) * images + t * noise, times, ids, mask)
    return (velocity.float() - (noise - images)).square().mean()


@dataclass(frozen=True, slots=True)
class FixedDraws:
    """Images, noise (B, 3, 32, 32), times (B,) and captions (B, L) that do not change from one measure to the next."""

    images: Tensor
    noise: Tensor
    times: Tensor
    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, emoji: Emoji, captions: Captions, count: int, seed: int) -> FixedDraws:
        """`count` pictures, evenly spaced, in turn; times evenly spaced over (0, 1)."""
        generator = row_generator(seed)
        rows = (torch.arange(count) * len(emoji.pictures) // count).tolist()
        ids, mask = pad([captions.encode(emoji.pictures[row].name) for row in rows])
        times = (torch.randperm(count, generator=generator) + 0.5) / count
        images = emoji.images[rows]
        return cls(images, torch.randn(images.shape, generator=generator), times, ids, mask)

    def without_captions(self) -> FixedDraws:
        return replace(self, mask=torch.zeros_like(self.mask))

    @torch.no_grad()
    def loss(self, denoiser: nn.Module) -> float:
        """The flow loss of a denoiser that is in evaluation mode, on whichever device it is."""
        device = next(denoiser.parameters()).device
        images, ids, mask, noise, times = (
            each.to(device) for each in (self.images, self.ids, self.mask, self.noise, self.times)
        )
        return flow_loss(denoiser, (images, ids, mask), noise, times).item()
