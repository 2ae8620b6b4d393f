"""Owns the judge: a small classifier of real images. Its features measure distances, its verdicts measure classes.

It is trained anew for every evaluation, from a fixed seed, and is never published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.training.augment import augment
from services.training.image_data import ImageSet

FEATURES = 64
_BATCH = 64
_ROWS = 500  # at a time, when judging


class Judge(nn.Module):
    """Three strided convolutions, a layer of FEATURES, and the classes."""

    def __init__(
        self, *, channels: int, image_size: int, classes: int, widths: tuple[int, int, int] = (16, 32, 64)
    ) -> None:
        super().__init__()
        a, b, c = widths
        side = -(-image_size // 8)
        self.body = nn.Sequential(
            nn.Conv2d(channels, a, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(b, c, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(c * side * side, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> logits (B, K)."""
        return self.head(self.body(images))

    @torch.inference_mode()
    def judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 (N, FEATURES) and logits (N, K)."""
        features = torch.cat([self.body(part) for part in images.split(_ROWS)])
        return features, self.head(features)

    def accuracy(self, images: Tensor, classes: Tensor) -> float:
        return (self.judge(images)[1].argmax(1) == classes).float().mean().item()


@torch.enable_grad()  # the loop validates without gradients
def train_judge(images: ImageSet, *, steps: int = 1000, seed: int = 0, extra: ImageSet | None = None) -> Judge:
    """A judge of these images, shifted by up to an eighth of their side; half of each batch is of `extra`, if given.

    AdamW, one-cycle from 3e-3; about 10 seconds on a core. Deterministic on one machine.
    """
    generator = torch.Generator().manual_seed(seed)
    channels, side = images.images.shape[1:3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(channels=channels, image_size=side, classes=int(images.classes.max()) + 1)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=0.01, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(steps):
        batch, classes = _batch(images, extra, generator)
        loss = functional.cross_entropy(
            judge(augment(batch, ["translation"], generator)), classes, label_smoothing=0.05
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
    return judge.eval()


def _batch(images: ImageSet, extra: ImageSet | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    sets = [images] if extra is None else [images, extra]
    chosen = [torch.randint(len(each), (_BATCH // len(sets),), generator=generator) for each in sets]
    units = [each.units(indices) for each, indices in zip(sets, chosen, strict=True)]
    return torch.cat(units), torch.cat([each.classes[i] for each, i in zip(sets, chosen, strict=True)])
