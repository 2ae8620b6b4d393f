"""Owns the batches that a story GPT is trained on: windows of chapters. Never sees a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NOTHING = -1  # after a chapter's end, in a batch


class ChapterWindows:
    """A chapter makes as many examples as it holds contexts; none goes over its end.

    Its first one begins with the chapter, as what is served does; each other one within half a context of its place,
    anew each time, so that no token is always told from the same few before it.
    """

    def __init__(self, documents: Sequence[Tensor], context: int) -> None:
        """documents: int64 (T,) each, BOS and EOS included."""
        self._documents, self._context = documents, context
        self._places = torch.tensor(
            [
                (chapter, place)
                for chapter, document in enumerate(documents)
                for place in range(max(1, -(-(len(document) - 1) // context)))
            ]
        )

    @property
    def examples(self) -> int:
        return len(self._places)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """int64 (B, context + 1): each token but the first is to be told; NOTHING fills up a short chapter."""
        half = self._context // 2
        shifts = torch.randint(-half, half + 1, (len(indices),), generator=generator).tolist()
        places = self._places[indices].tolist()
        return torch.stack(
            [self._window(chapter, place, shift) for (chapter, place), shift in zip(places, shifts, strict=True)]
        )

    def _window(self, chapter: int, place: int, shift: int) -> Tensor:
        document, length = self._documents[chapter], self._context + 1
        start = min(place * self._context + shift, len(document) - length) if place else 0
        window = document[max(start, 0) :][:length]
        return torch.nn.functional.pad(window, (0, length - len(window)), value=NOTHING)
