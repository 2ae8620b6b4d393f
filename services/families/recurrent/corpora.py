"""Owns what a recurrent net of tokens learns from: documents, or windows of one long text. Never sees a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

NOTHING = -1  # after a document's end, in a batch of longer ones


class Corpus(Protocol):
    """Training examples of tokens."""

    @property
    def examples(self) -> int: ...
    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """int64 (B, T): each token but the first is to be told from those before it; NOTHING fills up the ends."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """Whole documents, BOS and EOS included: `tokens` one after another, `starts` (N + 1,) where each begins.

    Of a document of more than `longest` + 1 tokens a window is taken at random; one starts at the BOS half the time.
    """

    tokens: Tensor
    starts: Tensor
    longest: int

    @classmethod
    def of(cls, documents: Sequence[Sequence[int]], longest: int) -> Documents:
        lengths = torch.tensor([0, *(len(document) for document in documents)])
        return cls(torch.tensor([i for document in documents for i in document]), lengths.cumsum(0), longest)

    @property
    def examples(self) -> int:
        return len(self.starts) - 1

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        windows = [self._window(int(index), generator) for index in indices]
        return torch.nn.utils.rnn.pad_sequence(windows, batch_first=True, padding_value=NOTHING).long()

    def _window(self, index: int, generator: torch.Generator) -> Tensor:
        document = self.tokens[self.starts[index] : self.starts[index + 1]]
        spare = len(document) - (self.longest + 1)
        if spare <= 0:
            return document
        begin, at = torch.rand(2, generator=generator).tolist()
        start = 0 if begin < 0.5 else int(at * (spare + 1))
        return document[start : start + self.longest + 1]


@dataclass(frozen=True, slots=True, eq=False)
class LongText:
    """Windows of one text (N,): `length` tokens from any of `starts` on, behind a BOS, as a prompt would begin.

    No state is carried from one batch to the next: what a step computes must follow from the run's seed and the step's
    number alone, so that a run goes on exactly from a checkpoint.
    """

    tokens: Tensor
    starts: Tensor  # int64, each at least `length` tokens before the end
    length: int
    bos: int

    @property
    def examples(self) -> int:
        return len(self.starts)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        windows = self.tokens[self.starts[indices][:, None] + torch.arange(self.length)].long()
        return torch.nn.functional.pad(windows, (1, 0), value=self.bos)
