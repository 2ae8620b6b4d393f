"""Owns how well tunes are told, in bits a note: by a net, and by n-grams as a baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from services.families.recurrent.language_training import document_nats
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.music.data import RealTune
from services.families.recurrent.music.lexicon import is_bar
from services.families.recurrent.music.vocabulary import Lexemes
from services.training.ngrams import NgramModel

_LONGEST = 8  # of the n-grams


def net_bits(net: RecurrentLM, lexemes: Lexemes, tunes: Sequence[RealTune]) -> float:
    """Of all that a tune's sequence holds after its genre, by the net as it is, without the rules of bars."""
    documents = [torch.tensor(lexemes.ids(tune.lexemes)) for tune in tunes]
    return document_nats(net, documents).sum().item() / math.log(2) / notes_of(tunes)


def ngram_bits(train: Sequence[RealTune], tunes: Sequence[RealTune]) -> list[float]:
    """The same by n-grams of every order from 1 on. Their bar lines are all alike: they could not count."""
    ids: dict[str, int] = {}

    def documents(of: Sequence[RealTune]) -> list[list[int]]:
        plain = [["|" if is_bar(lexeme) else lexeme for lexeme in tune.lexemes] for tune in of]
        return [[ids.setdefault(lexeme, len(ids)) for lexeme in tune] for tune in plain]

    learned, told = documents(train), documents(tunes)
    bits = NgramModel(learned, _LONGEST, len(ids)).document_bits(told)
    return [each / notes_of(tunes) for each in bits]


def notes_of(tunes: Sequence[RealTune]) -> int:
    return sum(len(bar) for tune in tunes for bar in tune.bars)
