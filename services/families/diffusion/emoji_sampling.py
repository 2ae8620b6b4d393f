"""Owns drawing from the embedded model outside of serving: a plain Euler loop, for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.diffusion.captions import Captions, pad
from services.families.diffusion.model import EmojiDenoiser
from services.nn.rng import row_generator

STEPS, GUIDANCE = 20, 3.0
_BATCH = 64


@torch.no_grad()
def draw(
    denoiser: EmojiDenoiser,
    captions: Captions,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> Tensor:
    """Images (N, 3, 32, 32) in [-1, 1] on the CPU, each from its own seed; the denoiser may be on any device."""
    device = next(denoiser.parameters()).device
    size = denoiser.architecture.image_size
    noise = torch.stack([torch.randn(3, size, size, generator=row_generator(seed)) for seed in seeds])
    ids, mask = pad([captions.encode(prompt) for prompt in prompts])
    parts = zip(*(each.to(device).split(_BATCH) for each in (noise, ids, mask)), strict=True)
    drawn = torch.cat([euler(denoiser, x, i, m, steps=steps, guidance=guidance) for x, i, m in parts])
    return drawn.clamp(-1, 1).cpu()


def euler(denoiser: EmojiDenoiser, x: Tensor, ids: Tensor, mask: Tensor, *, steps: int, guidance: float) -> Tensor:
    """From noise at t = 1 to an image at t = 0 in even steps: x -= v dt, v = v_null + guidance (v_caption - v_null).

    Classifier-free guidance: Ho & Salimans 2022, arXiv:2207.12598.
    """
    doubled = torch.cat((ids, ids)), torch.cat((mask, torch.zeros_like(mask)))
    for time in torch.linspace(1, 0, steps + 1)[:-1].to(x.device):
        both = denoiser(torch.cat((x, x)), time.expand(2 * len(x)), *doubled)
        captioned, null = both.chunk(2)
        x = x - (null + guidance * (captioned - null)) / steps
    return x
