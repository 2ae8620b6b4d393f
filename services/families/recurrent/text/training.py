"""Owns what a character model is trained on: windows of verse that begin with a line."""

from __future__ import annotations

from pathlib import Path

import torch

from services.families.recurrent.corpora import LongText
from services.families.recurrent.language_training import LanguageTraining
from services.families.recurrent.model import RecurrentConfig
from services.families.recurrent.text.samples import poem_sheet
from services.families.recurrent.text.tokens import BOS, byte_ids
from services.families.recurrent.text.verse import read_verse


def verse_training(
    config: RecurrentConfig, data: Path, seed: int, *, length: int, learning_rate: float
) -> LanguageTraining:
    """Windows of `length` characters; validated on passages that are neither trained on nor held out."""
    return LanguageTraining(
        config,
        verse_corpus(read_verse(data, "training"), length),
        [byte_ids(text) for text in read_verse(data, "validation")],
        seed,
        sheet=poem_sheet,
        learning_rate=learning_rate,
    )


def verse_corpus(texts: list[str], length: int) -> LongText:
    """No window goes over a passage's end."""
    line_feed = byte_ids("\n")[1]
    ids, starts, at = list[torch.Tensor](), list[torch.Tensor](), 0
    for text in texts:
        characters = byte_ids(text)[1:]
        begins = torch.cat([torch.zeros(1, dtype=torch.int64), (characters == line_feed).nonzero()[:, 0] + 1])
        starts.append(begins[begins + length <= len(characters)] + at)
        ids.append(characters.to(torch.int16))
        at += len(characters)
    return LongText(torch.cat(ids), torch.cat(starts), length, BOS)
