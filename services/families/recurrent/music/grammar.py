"""Owns which lexemes may follow a tune so far, so that every bar is full and the tune has the bars that were asked for.

What the rules leave is the model's choice alone. Never sees a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.families.recurrent.music.lexicon import (
    END,
    REST,
    TRIPLET_SIGNS,
    bar_lexeme,
    is_bar,
    is_length,
    length_ticks,
)
from services.families.recurrent.music.scores import EIGHTH, Metre
from services.families.recurrent.music.vocabulary import Lexemes
from services.nn.errors import UnsupportedModel

SHORTEST = EIGHTH // 2  # ticks of a note; all others, and triplets as a whole, are multiples of it


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a tune the next lexeme comes. `bar`: ticks of a full one.

    `room`: ticks left in the bar, those of a `pending` note not counted, whose length may still come.
    `of_triplet`: its notes that are to come. `left`: bars that are to come after this one.
    """

    bar: int
    room: int
    left: int
    pending: bool = False
    of_triplet: int = 0

    @property
    def free(self) -> int:
        """Ticks left in the bar, if the pending note is an eighth."""
        return self.room - EIGHTH if self.pending else self.room

    def settled(self) -> Place:
        """The same with the pending note as an eighth."""
        return replace(self, room=self.free, pending=False)


class Grammar:
    """The rules over one model's lexemes."""

    def __init__(self, lexemes: Lexemes) -> None:
        """Raises UnsupportedModel for lexemes that cannot fill every bar."""
        if SHORTEST not in lexemes.lengths:
            raise UnsupportedModel("the model", "its lexemes lack the sixteenth: it is no model of tunes")
        self._lexemes = lexemes
        bodies = [(i, name) for i, name in enumerate(lexemes.names) if ":" not in name and name != END]
        notes = [(i, name) for i, name in bodies if not is_bar(name) and not is_length(name)]
        self._pitches = [i for i, name in notes if name not in TRIPLET_SIGNS]
        self._sounding = [i for i, name in notes if name not in TRIPLET_SIGNS and name != REST]
        self._triplets = [(i, 3 * TRIPLET_SIGNS[name]) for i, name in notes if name in TRIPLET_SIGNS]
        self._banned: dict[Place, tuple[int, ...]] = {}

    def start(self, metre: Metre, bars: int) -> Place:
        """Before the first bar of so many."""
        return Place(metre.bar, 0, bars)

    def after(self, place: Place, token: int) -> Place:
        name = self._lexemes.names[token]
        if is_bar(name):
            return Place(place.bar, place.bar, place.left - 1)
        if is_length(name):
            return replace(place, room=place.room - length_ticks(name), pending=False)
        if name in TRIPLET_SIGNS:
            settled = place.settled()
            return replace(settled, room=settled.room - 3 * TRIPLET_SIGNS[name], of_triplet=3)
        if name == END:
            return place.settled()
        if place.of_triplet:
            return replace(place, of_triplet=place.of_triplet - 1)
        return replace(place.settled(), pending=True)

    def along(self, place: Place, tokens: Sequence[int]) -> Place:
        for token in tokens:
            place = self.after(place, token)
        return place

    def banned(self, place: Place) -> tuple[int, ...]:
        """The ids that may not come next. At least one may."""
        found = self._banned.get(place)
        if found is None:
            allowed = set(self._allowed(place))
            found = tuple(i for i in range(len(self._lexemes)) if i not in allowed)
            self._banned[place] = found  # a few thousand at most: places differ by sixteenths and bars alone
        return found

    def _allowed(self, place: Place) -> list[int]:
        if place.of_triplet:
            return self._sounding
        allowed: list[int] = []
        if place.pending:
            allowed += [i for ticks, i in self._lexemes.lengths.items() if ticks <= place.room]
        if place.free > 0:
            allowed += self._pitches
            allowed += [i for i, ticks in self._triplets if ticks <= place.free]
        if place.free == 0:
            allowed += self._lexemes.ids([bar_lexeme(place.left)]) if place.left else [self._lexemes.end]
        return allowed
