"""Owns the verdict of a parser that is not ours: whether ABC is a tune with the bars that were asked for; and MusicXML.

music21 is imported when it is first needed: a second, and some 30 MB.
"""

from __future__ import annotations

import re
from fractions import Fraction
from threading import Lock
from typing import Any

from services.families.recurrent.music.scores import EIGHTH, Tune

_DATE = re.compile(rb"\s*<encoding-date>[^<]*</encoding-date>")


class Checker:
    """Reads ABC by music21, one tune at a time: it promises nothing about threads. A tune takes a tenth of a second."""

    def __init__(self) -> None:
        self._lock = Lock()

    def is_valid(self, abc: str, tune: Tune) -> bool:
        """Whether it reads as so many full bars, with the metre and the signature of the tune's key."""
        with self._lock:
            score = _parsed(abc)
            return score is not None and _fits(score, tune)

    def musicxml(self, abc: str) -> str | None:
        """None where it cannot be read. Takes half a second; the same for the same tune on any day."""
        from music21.musicxml.m21ToXml import GeneralObjectExporter  # noqa: PLC0415 - see above

        with self._lock:
            score = _parsed(abc)
            return None if score is None else _DATE.sub(b"", GeneralObjectExporter(score).parse()).decode()


def _parsed(abc: str) -> Any:
    from music21 import converter, exceptions21  # noqa: PLC0415 - see above

    try:
        return converter.parseData(abc, format="abc")
    except (exceptions21.Music21Exception, ValueError, KeyError, IndexError):
        return None


def _fits(score: Any, tune: Tune) -> bool:
    """music21's lengths are in quarter notes."""
    measures = list(score.recurse().getElementsByClass("Measure"))
    metres = [str(each.ratioString) for each in score.recurse().getElementsByClass("TimeSignature")]
    keys = [int(each.sharps) for each in score.recurse().getElementsByClass("KeySignature")]
    full = Fraction(tune.metre.bar, 2 * EIGHTH)
    return (
        len(measures) == len(tune.bars)
        and all(Fraction(measure.duration.quarterLength) == full for measure in measures)
        and metres == [str(tune.metre)]
        and keys == [tune.key.sharps]
    )
