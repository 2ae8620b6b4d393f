"""Owns the way from what a tune is to be to a row that draws it. Never sees a request."""

from __future__ import annotations

from services.families.recurrent.music.grammar import SHORTEST, Grammar
from services.families.recurrent.music.lexicon import bar_lexeme
from services.families.recurrent.music.sampler import TuneOrder, TuneParams
from services.families.recurrent.music.vocabulary import Lexemes
from services.nn.text.params import SamplingOptions

TASK = "music"


def params_of(order: TuneOrder, lexemes: Lexemes, grammar: Grammar, sampling: SamplingOptions, seed: int) -> TuneParams:
    """A row that draws `order` from `seed`. Raises KeyError for a lexeme of its opening that the model lacks."""
    opening = lexemes.ids(order.opening or (bar_lexeme(order.bars),))
    place = grammar.along(grammar.start(order.terms.metre, order.bars), opening).settled()
    return TuneParams(
        task=TASK,
        prompt=(*lexemes.ids(order.terms.lexemes()), *opening),
        max_new_tokens=most_lexemes(order.terms.metre.bar, place.left + 1),
        seed=seed,
        sampling=sampling,
        whole=True,
        order=order,
        place=place,
    )


def most_lexemes(bar: int, bars: int) -> int:
    """Of a tune at most: every note a sixteenth, whose length is a lexeme too; bars of `bar` ticks, and the end."""
    return bars * (1 + 2 * bar // SHORTEST) + 1
