"""Owns the one pass of a score: exact likelihoods of given images. Never sees a request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.families.pixelcnn.likelihood import log_likelihoods, over_classes
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.params import ScoreParams


@dataclass(frozen=True, slots=True)
class ScoreChunk:
    """ln p in nats, given a class or over all of them."""

    nats: float
    given_class: bool


class ScorePass:
    """Implements `services.nn.one_shot.Pass`: every image under each class that it is asked about."""

    def __init__(self, model: GatedPixelCnn) -> None:
        self.model = model

    def __call__(self, rows: Sequence[ScoreParams]) -> list[ScoreChunk | None]:
        asked = [range(row.classes) if row.label is None else (row.label,) for row in rows]
        values = torch.cat([row.values.expand(len(labels), -1, -1) for row, labels in zip(rows, asked, strict=True)])
        labels = torch.tensor([label for labels in asked for label in labels])
        found = log_likelihoods(self.model, values, labels)
        chunks: list[ScoreChunk | None] = []
        for row, part in zip(rows, found.split([len(labels) for labels in asked]), strict=True):
            nats = float(over_classes(part[None]))
            chunks.append(ScoreChunk(nats, row.label is not None) if math.isfinite(nats) else None)
        return chunks
