"""Owns the cutting of a text into sentences and clauses, each with the mark that ends it. Never sees a phoneme.

What is between the marks holds nothing that a phonemizer would take for a mark, or for an order: espeak-ng reads
`[[...]]` as phonemes, and brackets are marks here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 600  # bytes of a clause: espeak-ng reads lines of up to 1,000

_ENDS = {".": ".", "!": "!", "?": "?", "…": ".", "。": ".", "！": "!", "？": "?"}
_PAUSES = {",": ",", ";": ";", ":": ":", "、": ",", "，": ",", "；": ";", "：": ":"}
_DASHES = "–—―"
_BRACKETS = "()[]{}<>"
_CLOSING = "\"'”’»)]}"
_WIDE = "。！？、，；：…"  # marks that no space need follow
# Words that are read in full without their dot, which ends no sentence.
_SHORT = frozenset({"capt", "col", "dr", "gen", "hon", "lt", "mr", "mrs", "ms", "prof", "rev", "st", "vs"})
_PARAGRAPH = re.compile(r"\n\s*\n")
# Marks that close a word, with the quotes and brackets after them; dashes between words; brackets anywhere.
_MARK = re.compile(
    rf"(?P<ends>[.!?]+)[{re.escape(_CLOSING)}]*(?=\s|$)"
    rf"|(?P<pause>[,;:])[{re.escape(_CLOSING)}]*(?=\s|$)"
    rf"|(?P<wide>[{_WIDE}])"
    rf"|(?P<dash>[{_DASHES}]|(?<=\s)-+(?=\s)|--+)"
    rf"|(?P<bracket>[{re.escape(_BRACKETS)}])"
)
_DOTTED = re.compile(r"\w\.\w+$")  # `a.m.`, `e.g.`: the dot ends a sentence where the next word is a new one's
_LAST_WORD = re.compile(r"([^\W\d_]+)$")


@dataclass(frozen=True, slots=True)
class Clause:
    """Words without a mark, and the one that ends them: one of `.!?,;:`."""

    text: str
    mark: str


def split(text: str) -> list[list[Clause]]:
    """A text's sentences, each of at least one clause; a clause has something to say, as far as characters tell."""
    found: list[list[Clause]] = []
    for paragraph in _PARAGRAPH.split(unicodedata.normalize("NFC", text)):
        found += _sentences(list(_clauses(" ".join(paragraph.split()))))
    return found


def _clauses(text: str) -> Iterator[Clause]:
    start = 0
    for match in _MARK.finditer(text):
        before = text[start : match.start()]
        rest = text[match.end() :].lstrip()
        if match["ends"] == "." and rest:
            if _is_short(before):
                text = f"{text[: match.start()]} {text[match.start() + 1 :]}"  # of the same length
                continue
            if _DOTTED.search(before) and not rest[0].isupper():
                continue
        yield from _sayable(before, _mark(match))
        start = match.end()
    yield from _sayable(text[start:], ".")


def _is_short(before: str) -> bool:
    """Whether the dot after this shortens its last word: an initial, or a title."""
    word = _LAST_WORD.search(before)
    return word is not None and (
        (len(word[1]) == 1 and word[1].isupper() and word[1] != "I") or word[1].casefold() in _SHORT
    )


def _mark(match: re.Match[str]) -> str:
    if ends := match["ends"]:
        return next((mark for mark in "?!" if mark in ends), ".")
    if wide := match["wide"]:
        return _ENDS.get(wide) or _PAUSES[wide]
    return match["pause"] or ","


def _sayable(text: str, mark: str) -> Iterator[Clause]:
    """The clause without what nobody says, in pieces that are not too long; none where nothing is left."""
    words = "".join(char if _is_said(char) else " " for char in text.replace("’", "'")).split()
    words = [word for word in words if any(char != "'" for char in word)]
    pieces = [piece for word in words for piece in _short_enough(word)]
    line = ""
    for piece in pieces:
        if line and len(f"{line} {piece}".encode()) > LONGEST:
            yield Clause(line, ",")
            line = ""
        line = f"{line} {piece}" if line else piece
    if line:
        yield Clause(line, mark)


def _is_said(char: str) -> bool:
    """Letters and their accents, digits, and signs that have names: `%`, `&`, `€`, an emoji, a point in a number."""
    return char not in '_^`|"' and (unicodedata.category(char)[0] in "LMN" or char in "'-.,:/\\@%&#*" or _is_sign(char))


def _is_sign(char: str) -> bool:
    return unicodedata.category(char) in ("Sm", "Sc", "So", "Sk")


def _short_enough(word: str) -> Iterator[str]:
    size = LONGEST // 4  # characters, of four bytes at most
    for first in range(0, len(word), size):
        yield word[first : first + size]


def _sentences(clauses: Sequence[Clause]) -> Iterator[list[Clause]]:
    sentence: list[Clause] = []
    for clause in clauses:
        sentence.append(clause)
        if clause.mark in ".!?":
            yield sentence
            sentence = []
    if sentence:
        yield sentence
