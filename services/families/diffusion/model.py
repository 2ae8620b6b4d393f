"""Owns the embedded emoji model: a small diffusion transformer that reads a caption. Never sees text or a request.

A DiT (Peebles & Xie 2023, arXiv:2212.09748) on 4x4 patches with the caption's words as further tokens of the sequence
and their mean in the modulation of every block (adaLN-zero). It is trained by flow matching along straight paths
(rectified flow; Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

_TIME_SCALE = 1000.0  # t in [0, 1] is stretched to the range that sinusoidal embeddings were made for


@dataclass(frozen=True, slots=True)
class Architecture:
    """The model's shape. `words` counts the ids of its captions: known words, hash buckets and padding (id 0)."""

    words: int
    image_size: int = 32
    patch: int = 4
    width: int = 192
    depth: int = 6
    heads: int = 3
    modulation: int = 128  # width of the vector that modulates the blocks
    caption_width: int = 128
    caption_length: int = 12

    @property
    def grid(self) -> int:
        return self.image_size // self.patch


class EmojiDenoiser(nn.Module):
    """Predicts the velocity of a noised image, given its time and caption.

    On the path x_t = (1 - t) x_0 + t eps the velocity is v = eps - x_0; the clean image is x_0 = x_t - t v.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.captions = CaptionEncoder(a)
        self.time = nn.Sequential(nn.Linear(128, a.modulation), nn.SiLU(), nn.Linear(a.modulation, a.modulation))
        self.patches = nn.Linear(3 * a.patch**2, a.width)
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.depth))
        self.norm = nn.LayerNorm(a.width, elementwise_affine=False, eps=1e-6)
        self.final = nn.Linear(a.modulation, 2 * a.width)
        self.output = nn.Linear(a.width, 3 * a.patch**2)
        for layer in (self.final, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("positions", grid_positions(a.grid, a.width), persistent=False)

    positions: Tensor

    def forward(self, x: Tensor, t: Tensor, caption_ids: Tensor, caption_mask: Tensor) -> Tensor:
        """The velocity (B, 3, 32, 32) of x (B, 3, 32, 32) at t (B,) in [0, 1].

        caption_ids (B, L) int64 and caption_mask (B, L) bool, True at words: as `captions.pad` gives them, L at
        least 1. A row without words has the null caption, which classifier-free guidance leads away from.
        """
        seen = torch.zeros_like(caption_mask, dtype=torch.float32).masked_fill(~caption_mask, -math.inf)
        words, caption = self.captions(caption_ids, caption_mask)
        return self.predict(x, t, words, caption, seen)

    def predict(self, x: Tensor, t: Tensor, words: Tensor, caption: Tensor, seen: Tensor) -> Tensor:
        """As `forward`, from a caption that was read before: words (B, L, W), caption (B, M) as `captions` gives them.

        seen (B, L) is added to the scores of attention: 0 at words, -inf elsewhere, or between for a word in part.
        """
        a = self.architecture
        condition = F.silu(self.time(time_features(t).to(caption.dtype)) + caption)  # (B, M)
        image = self.patches(to_patches(x, a.patch))  # (B, N, W)
        image = image + self.positions.to(image.dtype)
        tokens = torch.cat((image, words), 1)  # (B, N + L, W)
        keys = torch.cat((seen.new_zeros(x.shape[0], a.grid**2), seen), 1)[:, None, None]  # (B, 1, 1, N + L)
        for block in self.blocks:
            tokens = block(tokens, condition, keys)
        shift, scale = self.final(condition)[:, None].chunk(2, -1)
        image = self.norm(tokens[:, : a.grid**2]) * (1 + scale) + shift
        return from_patches(self.output(image), a.patch, a.grid)


class Block(nn.Module):
    """Attention and a feed-forward layer, each shifted, scaled and gated by the condition (adaLN-zero)."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.heads = a.heads
        self.modulate = nn.Linear(a.modulation, 6 * a.width)
        self.attention_norm = nn.LayerNorm(a.width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(a.width, 3 * a.width)
        self.projection = nn.Linear(a.width, a.width)
        self.mlp_norm = nn.LayerNorm(a.width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(a.width, 4 * a.width), nn.GELU(), nn.Linear(4 * a.width, a.width))
        nn.init.zeros_(self.modulate.weight)  # the block starts as the identity
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, condition: Tensor, seen: Tensor) -> Tensor:
        """x (B, S, W), condition (B, M), seen (B, 1, 1, S): added to the scores of attention."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulate(condition)[:, None].chunk(6, -1)
        x = x + gate_a * self._attend(self.attention_norm(x) * (1 + scale_a) + shift_a, seen)
        return x + gate_m * self.mlp(self.mlp_norm(x) * (1 + scale_m) + shift_m)

    def _attend(self, x: Tensor, seen: Tensor) -> Tensor:
        b, s, w = x.shape
        q, k, v = self.qkv(x).view(b, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)  # (B, H, S, D)
        # Plain products: for so short a sequence the CPU's fused attention takes twice as long, most of all backward.
        scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5)  # (B, H, S, S)
        attended = (scores + seen.to(scores.dtype)).softmax(-1).to(v.dtype) @ v
        return self.projection(attended.transpose(1, 2).reshape(b, s, w))


class CaptionEncoder(nn.Module):
    """Words to tokens of the sequence, and to one vector for the modulation."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.words = nn.Embedding(a.words, a.caption_width)
        self.places = nn.Parameter(torch.randn(a.caption_length, a.caption_width) * 0.02)
        self.tokens = nn.Linear(a.caption_width, a.width)
        self.pooled = nn.Sequential(
            nn.Linear(a.caption_width, 2 * a.caption_width), nn.SiLU(), nn.Linear(2 * a.caption_width, a.modulation)
        )
        nn.init.normal_(self.words.weight, std=0.5)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """From ids (B, L) and mask (B, L): tokens (B, L, W), and the vector (B, M) of the mean word."""
        words = self.words(ids) + self.places[: ids.shape[1]]  # (B, L, C)
        kept = words * mask[..., None]
        mean = kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(kept.dtype).sqrt()  # (B, C)
        return self.tokens(words), self.pooled(mean)


def to_patches(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) to (B, H/p * W/p, C p p), row by row."""
    b, c, h, w = x.shape
    tiles = x.view(b, c, h // patch, patch, w // patch, patch)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def from_patches(tokens: Tensor, patch: int, grid: int) -> Tensor:
    """The inverse of `to_patches`, for square images of `grid` patches a side."""
    b = tokens.shape[0]
    tiles = tokens.view(b, grid, grid, -1, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return tiles.reshape(b, -1, grid * patch, grid * patch)


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Sinusoidal features (..., width) of values (...) (Vaswani et al. 2017)."""
    half = width // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32)
    angles = values.float()[..., None] * torch.exp(-math.log(10000.0) / half * steps)
    return torch.cat((angles.cos(), angles.sin()), -1)


def time_features(t: Tensor) -> Tensor:
    """(B, 128) of times (B,) in [0, 1]."""
    return sinusoids(t * _TIME_SCALE, 128)


def grid_positions(grid: int, width: int) -> Tensor:
    """Two-dimensional sinusoidal positions (grid * grid, width): half the features for the row, half for the column."""
    axis = sinusoids(torch.arange(grid), width // 2)
    rows = axis[:, None].expand(grid, grid, -1)
    columns = axis[None].expand(grid, grid, -1)
    return torch.cat((rows, columns), -1).reshape(grid * grid, width)
