"""Owns how near tunes are to known ones, and to themselves: shared runs of notes, bars that return."""

from __future__ import annotations

from collections.abc import Sequence

from services.families.recurrent.music.scores import Bar, Note


class KnownMelodies:
    """Finds the longest run of notes, by degree and length, that a tune shares with any known one."""

    def __init__(self, melodies: Sequence[Sequence[Note]]) -> None:
        kinds = sorted({note for melody in melodies for note in melody}, key=str)
        self._letters = {note: chr(0x4E00 + i) for i, note in enumerate(kinds)}
        self._text = "|".join(map(self._spell, melodies))

    def longest_run(self, melody: Sequence[Note]) -> int:
        """In notes, whatever the key."""
        line, longest, start = self._spell(melody), 0, 0
        while start + longest < len(line):
            if line[start : start + longest + 1] in self._text:
                longest += 1
            else:
                start += 1
        return longest

    def _spell(self, melody: Sequence[Note]) -> str:
        return "".join(self._letters.get(note, "?") for note in melody)


def returning_bars(bars: Sequence[Bar]) -> float:
    """The share of bars that are the same as one before."""
    return 1 - len(set(bars)) / len(bars)
