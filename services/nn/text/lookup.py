"""Owns guesses at what follows a text: what followed when its last tokens came before. Never sees a tensor.

Prompt lookup decoding (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding; LLMA, Yang 2023, arXiv:2304.04487):
an answer often repeats its prompt and itself, and such a guess costs nothing but its check.
"""

from __future__ import annotations

from collections.abc import Sequence

_GRAMS = (3, 2)  # so many last tokens must have come before; the longer match guesses better, so it goes first
_MEMORY = 0.9  # of how its guesses were, kept with each new one


class Lookup:
    """A row's text, indexed by its last tokens. `hope`: how likely its next guess is right, as its last ones were.

    What the answer is `expected` to be is read as if it followed the prompt, whose end then comes again, so that the
    first guess is how it begins.
    """

    def __init__(self, prompt: Sequence[int], expected: Sequence[int] = ()) -> None:
        self.tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # where the text went on, the last time that these tokens came
        self._next: int | None = None  # where it went on after those that are its last now
        again = prompt[-_GRAMS[0] :] if expected else ()
        for token in (*prompt, *expected, *again):
            self._index(token)
        self.hope = 0.5

    def guess(self, most: int) -> tuple[int, ...]:
        """What may follow, `most` tokens; none where the last tokens are new. What repeats is guessed to go on so."""
        if self._next is None:
            return ()
        period = len(self.tokens) - self._next
        return tuple(self.tokens[self._next + i % period] for i in range(most))

    def add(self, token: int) -> None:
        """The text goes on, whether or not anybody has used the guess."""
        if self._next is not None:
            right = self.tokens[self._next] == token
            self.hope = _MEMORY * self.hope + (1 - _MEMORY) * right
        self._index(token)

    def _index(self, token: int) -> None:
        self.tokens.append(token)
        end, self._next = len(self.tokens), None
        for size in _GRAMS:
            if end >= size:
                gram = tuple(self.tokens[-size:])
                if self._next is None:
                    self._next = self._after.get(gram)
                self._after[gram] = end
