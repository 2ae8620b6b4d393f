"""Owns the training of a story GPT: what the loop asks for. How a batch is cut and how it is measured is elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

from services.families.transformer.stories.chapters import read_part
from services.families.transformer.stories.corpus import NOTHING, ChapterWindows
from services.families.transformer.stories.drawing import Storyteller
from services.families.transformer.stories.model import Shape, export_model, fresh_model
from services.families.transformer.stories.scoring import document_nats
from services.families.transformer.stories.sheets import story_sheet
from services.families.transformer.stories.tokens import documents
from services.training.recipe import Phase


class StoryTraining:
    """Implements `services.training.recipe.Training`: next-token prediction, in nats a token."""

    averaged: Sequence[str] = ("net",)

    def __init__(self, shape: Shape, tokenizer: Tokenizer, data: Path, seed: int, *, learning_rate: float) -> None:
        """data: the folder that has chapters to train on and chapters to validate on."""
        self._tokenizer = tokenizer
        self._net = fresh_model(shape, tokenizer.get_vocab_size(), seed)
        self._corpus = ChapterWindows(documents(tokenizer, read_part(data, "training")), shape.context)
        self._validated = documents(tokenizer, read_part(data, "validation"))
        self.phases: Sequence[Phase] = (
            Phase("tell", ("net",), learning_rate=learning_rate, betas=(0.9, 0.95), weight_decay=0.1),
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"net": self._net}

    @property
    def examples(self) -> int:
        return self._corpus.examples

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return self._corpus.batch(indices, generator)

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        logits = modules["net"](input_ids=batch[:, :-1].clamp(min=0), use_cache=False).logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=NOTHING), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Nats a token of chapters that are not trained on, in windows that do not overlap."""
        net = cast(GPT2LMHeadModel, modules["net"])
        nats = document_nats(net, self._validated, stride=net.config.n_positions)
        return {"metric": math.fsum(nats) / sum(len(document) - 1 for document in self._validated)}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        """By the way that serving takes: exported and loaded."""
        with TemporaryDirectory() as folder:
            export_model(cast(GPT2LMHeadModel, modules["net"]), self._tokenizer, Path(folder))
            return story_sheet(Storyteller(Path(folder)))
