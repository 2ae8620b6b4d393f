"""Owns exact log-likelihoods of given grids: one pass over the whole grid for each class. Draws nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from services.families.pixelcnn.model import GatedPixelCnn

GRIDS = 32  # at a time


@torch.inference_mode()
def log_likelihoods(model: GatedPixelCnn, values: Tensor, labels: Tensor) -> Tensor:
    """ln p(x | c) in nats, float64 (N,) on the CPU: values int64 (N, H, W), labels int64 (N,)."""
    device = model.to_logits.weight.device
    parts = [
        _of(model(some.to(device), of.to(device)), some.to(device)).cpu()
        for some, of in zip(values.split(GRIDS), labels.split(GRIDS), strict=True)
    ]
    return torch.cat(parts)


def class_log_likelihoods(model: GatedPixelCnn, values: Tensor) -> Tensor:
    """ln p(x | c) of every class, float64 (N, classes)."""
    count, classes = len(values), model.config.labels
    labels = torch.arange(classes).repeat(count)
    return log_likelihoods(model, values.repeat_interleave(classes, dim=0), labels).view(count, classes)


def over_classes(given_class: Tensor) -> Tensor:
    """ln p(x) = ln mean_c p(x | c), every class as likely as another: (N, classes) -> (N,)."""
    return given_class.logsumexp(1) - math.log(given_class.shape[1])


def bits_of(nats: float, cells: int) -> float:
    """Bits per dimension: what a cell takes of a grid's ln p in nats."""
    return -nats / (cells * math.log(2))


def _of(logits: Tensor, values: Tensor) -> Tensor:
    """float64 (B,) of logits (B, K, H, W)."""
    return -functional.cross_entropy(logits.double(), values, reduction="none").sum((1, 2))
