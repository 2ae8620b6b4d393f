"""Owns readings of many images, for measuring and for what scores are compared with. Serving reads through passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.boltzmann.reading import Reader

_ROWS = 100  # at a time


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Of N images: evidence float64 (N, K), hidden (N, H + T), reconstructed (N, D)."""

    evidence: Tensor
    hidden: Tensor
    reconstructed: Tensor


@torch.inference_mode()
def read_all(reader: Reader, visible: Tensor) -> Readings:
    """visible (N, D) of 0 and 1."""
    evidence, hidden, reconstructed = list[Tensor](), list[Tensor](), list[Tensor]()
    for part in visible.split(_ROWS):
        reading = reader.read(part)
        evidence.append(reading.evidence)
        hidden.append(reading.hidden)
        reconstructed.append(reader.reconstruct(reading))
    return Readings(torch.cat(evidence), torch.cat(hidden), torch.cat(reconstructed))


def log_likelihoods(reader: Reader, evidence: Tensor) -> Tensor:
    """log p(v) (N,) over all classes, or its lower bound, of evidence (N, K); in nats."""
    return torch.logsumexp(evidence + reader.class_bias, 1) - reader.log_total


def guesses(reader: Reader, evidence: Tensor) -> Tensor:
    """int64 (N,): the likeliest class of each image, the classes being equally likely before it is seen."""
    return (evidence + reader.class_bias).argmax(1)
