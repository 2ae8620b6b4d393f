"""Owns the discriminator, which is trained and thrown away: serving never imports this."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2


class Discriminator(nn.Module):
    """A projection discriminator (Miyato 2018, arXiv:1802.05637) with spectral norm (arXiv:1802.05957).

    The score of an image x for class y is psi(phi(x)) + <embedding(y), phi(x)> + chi(|phi(x) - m_y|), m_y being the
    mean of phi over the batch's images of that class. The last term sees whether a class is drawn as variously as it
    is in truth (minibatch standard deviation, Karras 2018, arXiv:1710.10196, within classes): without it each class
    collapses to one drawing. Each stage halves height and width.
    """

    def __init__(self, *, channels: int, classes: int, image_size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, kernel_size=4, stride=2, padding=1)) for a, b in pairwise((channels, *widths))
        )
        side = image_size // 2 ** len(widths)
        self.features = spectral_norm(nn.Linear(widths[-1] * side * side, widths[-1]))
        self.score = spectral_norm(nn.Linear(widths[-1], 1))  # psi
        self.variety = spectral_norm(nn.Linear(widths[-1], 1))  # chi
        self.class_embedding = spectral_norm(nn.Embedding(classes, widths[-1]))

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """images (B, C, H, W) in [-1, 1], classes int64 (B,) -> float32 scores (B,); higher is more real.

        A batch is all real or all generated, as its images are compared with each other.
        """
        x = images.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = functional.leaky_relu(stage(x), _SLOPE)
        features = functional.leaky_relu(self.features(x.flatten(1)), _SLOPE)  # phi(x)
        projection = (self.class_embedding(classes) * features).sum(dim=1)
        score = self.score(features) + self.variety(_deviation(features, classes))
        return score[:, 0].float() + projection.float()


def _deviation(features: Tensor, classes: Tensor) -> Tensor:
    """(B, F): how far each row is from the mean of its class in the batch, feature by feature."""
    alike = (classes[:, None] == classes[None, :]).to(features.dtype)  # (B, B)
    return (features - alike @ features / alike.sum(dim=1, keepdim=True)).abs()
