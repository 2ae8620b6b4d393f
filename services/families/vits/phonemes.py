"""Owns the way from words to phonemes: the seam, espeak-ng behind it, and pieces short enough to say in one go.

espeak-ng is a program that the operator installs (GPL-3.0): it runs as a process of its own, without a shell, is given
words by its standard input alone, and has a bounded time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.families.vits.sentences import Clause
from services.nn.errors import UnsupportedModel
from shared.errors import InternalError

PROGRAM = "espeak-ng"
PATIENCE_S = 10.0  # for a request's whole text
_LANGUAGE = re.compile(r"\([a-z][a-z0-9-]*\)")  # where espeak-ng goes over to another language, and back


class Phonemizer(Protocol):
    def phonemes(self, lines: Sequence[str]) -> list[str]:
        """The International Phonetic Alphabet's, of each line; empty where there is nothing to say.

        A line is of `Clause.text`. Takes some tens of milliseconds. Raises InternalError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Espeak:
    """`voice` is espeak-ng's own name of a language."""

    program: str
    voice: str
    patience_s: float = PATIENCE_S

    @classmethod
    def installed(cls, voice: str) -> Espeak:
        """Raises UnsupportedModel where the program is missing, or cannot speak the language."""
        program = shutil.which(PROGRAM)
        if program is None:
            reason = (
                f"the program `{PROGRAM}` is not on the PATH: install it (Debian and Ubuntu: apt install {PROGRAM})"
            )
            raise UnsupportedModel("the voice", reason)
        found = cls(program, voice)
        try:
            said = found.phonemes(["a"])
        except InternalError as error:
            raise UnsupportedModel("the voice", f"`{PROGRAM}` cannot speak {voice!r}: {error.__cause__}") from error
        if not said[0]:
            raise UnsupportedModel("the voice", f"`{PROGRAM}` says nothing in {voice!r}")
        return found

    def phonemes(self, lines: Sequence[str]) -> list[str]:
        deadline = time.monotonic() + self.patience_s
        said = self._said(lines, deadline)
        if len(said) == len(lines):
            return said
        # One of them was taken for several: each by itself is what it is, however many that are.
        return [" ".join(self._said([line], deadline)).strip() for line in lines]

    def _said(self, lines: Sequence[str], deadline: float) -> list[str]:
        """What is said between empty lines, of which one is put after each: as many as `lines`, if all goes well."""
        words = [self.program, "-q", "--ipa", "-b", "1", "-v", self.voice]
        text = "".join(f"{line}\n\n" for line in lines)
        try:
            done = subprocess.run(  # noqa: S603 - without a shell; the text is its standard input
                words,
                input=text.encode(),
                check=True,
                capture_output=True,
                timeout=max(0.001, deadline - time.monotonic()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise InternalError from error
        return list(_groups(done.stdout.decode(errors="replace").splitlines()))


def _groups(lines: Sequence[str]) -> Iterator[str]:
    """A line that may be empty, and those after it until an empty one, joined."""
    group: list[str] = []
    for line in lines:
        if group and not line.strip():
            yield _LANGUAGE.sub("", " ".join(group)).strip()
            group = []
        else:
            group.append(line.strip())
    if group:
        yield _LANGUAGE.sub("", " ".join(group)).strip()


@dataclass(frozen=True, slots=True)
class Utterance:
    """Phonemes with marks, said in one go. `is_end`: a sentence ends with it."""

    phonemes: str
    is_end: bool


def utterances(sentences: Sequence[Sequence[Clause]], phonemizer: Phonemizer, longest: int) -> list[Utterance]:
    """A text's sentences, in pieces of at most `longest` phonemes; none of a text that says nothing."""
    clauses = [clause for sentence in sentences for clause in sentence]
    said = iter(phonemizer.phonemes([clause.text for clause in clauses]) if clauses else [])
    found: list[Utterance] = []
    for sentence in sentences:
        parts = [(phonemes, clause.mark) for clause, phonemes in zip(sentence, said, strict=False) if phonemes]
        *pieces, last = _pieces(" ".join(f"{phonemes}{mark}" for phonemes, mark in parts), longest)
        found += [Utterance(piece, is_end=False) for piece in pieces]
        if last:
            found.append(Utterance(last, is_end=True))
    return found


def _pieces(phonemes: str, longest: int) -> Iterator[str]:
    """Cut after a mark of the second half of what has room, or else between words, or else anywhere; the last may be
    empty."""
    while len(phonemes) > longest:
        room = phonemes[: longest + 1]
        marked = max(room.rfind(f"{mark} ", longest // 2) + 1 for mark in ",;:")
        at = marked or room.rfind(" ")
        at = at if at > 0 else longest
        yield phonemes[:at]
        phonemes = phonemes[at:].lstrip()
    yield phonemes
