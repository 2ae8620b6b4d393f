"""Owns how training sees a tune: whole or a part of it, in its own key or another, as ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from services.families.recurrent.corpora import NOTHING
from services.families.recurrent.music.data import MOST_BARS, RealTune
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import END, bar_lexeme
from services.families.recurrent.music.repertoire import KEYS, TONICS
from services.families.recurrent.music.vocabulary import Lexemes

PART = 8  # bars: what nearly all of these tunes are made of
_TRANSPOSED = 0.3
_FARTHEST = 5  # semitones
_ALONE, _REPEATED = 0.15, 0.08  # share of tunes that come as one part, and with each part twice
_LONGEST = 224  # lexemes that a step sees of a tune: a whole one of 16 bars, nearly always
_FEWEST = 120  # tunes of a genre: one that has less is shown more often


def tune_lexemes(tunes: Sequence[RealTune]) -> Lexemes:
    """Every lexeme of these tunes, every key's tonic, and every number of bars."""
    names = {lexeme for tune in tunes for lexeme in tune.lexemes}
    names |= {f"tonic:{tonic}" for tonic in TONICS} | {bar_lexeme(left + 1) for left in range(MOST_BARS)} | {END}
    return Lexemes.of(names)


class TuneCorpus:
    """Implements `services.families.recurrent.corpora.Corpus`."""

    def __init__(self, tunes: Sequence[RealTune], lexemes: Lexemes) -> None:
        self._lexemes = lexemes
        counts = {genre: sum(tune.terms.genre == genre for tune in tunes) for genre in {t.terms.genre for t in tunes}}
        self._shown = [tune for tune in tunes for _ in range(max(1, round(_FEWEST / counts[tune.terms.genre])))]

    @property
    def examples(self) -> int:
        return len(self._shown)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        rows = [self._row(self._shown[i], generator) for i in indices.tolist()]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NOTHING)

    def _row(self, tune: RealTune, generator: torch.Generator) -> Tensor:
        """The beginning or the end of a tune that is longer than a step takes; an end comes without its terms."""
        ids = torch.tensor(self._lexemes.ids(varied(tune, generator).lexemes))
        from_start = bool(torch.rand((), generator=generator) < 0.5)
        return ids[:_LONGEST] if from_start else ids[-_LONGEST:]


def varied(tune: RealTune, generator: torch.Generator) -> RealTune:
    """The tune, now and then in another key, as one of its parts, or with each of its parts twice."""
    transposes, shapes, where = torch.rand(3, generator=generator).tolist()
    terms, bars = tune.terms, tune.bars
    if transposes < _TRANSPOSED:
        keys = near_keys(terms.key)
        terms = replace(terms, key=keys[int(where * len(keys))])
    if len(bars) == 2 * PART:
        first, second = bars[:PART], bars[PART:]
        if shapes < _ALONE:
            bars = first if where < 0.5 else second
        elif shapes < _ALONE + _REPEATED:
            bars = (*first, *first, *second, *second)
    return RealTune(terms, bars, tune.title)


def near_keys(key: Key) -> list[Key]:
    """Those of the same mode that keep the tune within reach of the same instrument; the key itself among them."""
    near = [
        each
        for each in KEYS
        if each.mode == key.mode and abs(each.tonic_pitch.midi - key.tonic_pitch.midi) <= _FARTHEST
    ]
    return near or [key]
