"""Owns the Haar wavelet of images: a coarse image of half the side, and the details that it lacks. No parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_DET_PER_BLOCK = -math.log(16)  # of 2x2 pixels: a Hadamard matrix, whose determinant is 16, over 4


def halve(image: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) -> means of 2x2 blocks (B, 1, H/2, W/2), and differences across, down and diagonal (B, 3, ...)."""
    a, b = image[..., ::2, ::2], image[..., ::2, 1::2]
    c, d = image[..., 1::2, ::2], image[..., 1::2, 1::2]
    details = torch.cat([a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 4
    return (a + b + c + d) / 4, details


def double(coarse: Tensor, details: Tensor) -> Tensor:
    """The image that `halve` made both of."""
    across, down, diagonal = details.chunk(3, dim=1)
    image = coarse.new_empty(*coarse.shape[:2], 2 * coarse.shape[2], 2 * coarse.shape[3])
    image[..., ::2, ::2] = coarse + across + down + diagonal
    image[..., ::2, 1::2] = coarse - across + down - diagonal
    image[..., 1::2, ::2] = coarse + across - down - diagonal
    image[..., 1::2, 1::2] = coarse - across - down + diagonal
    return image
