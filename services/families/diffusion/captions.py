"""Owns the embedded model's captions: text to word ids. Never sees a tensor's model, nor a request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

MAX_WORDS = 12
BUCKETS = 32  # unknown words share these ids, each word always the same one
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_PADDING = 0


def words_of(text: str) -> list[str]:
    """Lower-cased words; what is neither letter nor digit separates them."""
    return _WORD.findall(text.lower())


class Captions:
    """A vocabulary of known words. Ids: 0 is padding, then the unknown words' buckets, then the known words."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self._ids = {word: 1 + BUCKETS + place for place, word in enumerate(self.vocabulary)}

    @classmethod
    def of(cls, texts: Iterable[str]) -> Captions:
        """The vocabulary of these texts, in alphabetical order."""
        return cls(sorted({word for text in texts for word in words_of(text)}))

    def __len__(self) -> int:
        """How many ids there are."""
        return 1 + BUCKETS + len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Ids of the text's words. Empty for a text without words: the null caption.

        Raises ValueError over MAX_WORDS words.
        """
        words = words_of(text)
        if len(words) > MAX_WORDS:
            raise ValueError(f"a caption may have at most {MAX_WORDS} words; got {len(words)}")
        return [self._ids.get(word, 1 + _bucket(word)) for word in words]

    def unknown(self, text: str) -> list[str]:
        """The text's words that no training caption had."""
        return [word for word in words_of(text) if word not in self._ids]

    def unread(self, text: str) -> list[str]:
        """What a reader of the text would miss: unknown words, and what stands alone and is none, as an emoji does."""
        signs = [sign for sign in text.split() if not sign.isascii() and not words_of(sign)]
        return [*self.unknown(text), *signs]


def pad(rows: Sequence[Sequence[int]], *, length: int = 1) -> tuple[Tensor, Tensor]:
    """Rows of ids: ids (B, L) int64 and mask (B, L) bool, True at words. L is the longest row's, at least `length`."""
    length = max(length, *map(len, rows))
    ids = torch.tensor([[*row, *[_PADDING] * (length - len(row))] for row in rows], dtype=torch.int64)
    ids = ids.view(len(rows), length)
    mask = torch.arange(length) < torch.tensor([len(row) for row in rows], dtype=torch.int64)[:, None]
    return ids, mask


def _bucket(word: str) -> int:
    return hashlib.blake2b(word.encode(), digest_size=2).digest()[0] % BUCKETS
