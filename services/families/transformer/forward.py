"""Owns a step's two forwards over the slot cache: one token of every decoding row, one piece of some prompts.

The model is a transformers causal LM, unchanged: it is given explicit positions and a 4-D additive mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from services.nn.kv_cache import SlotCache, cache_view


class CausalLM(Protocol):
    """What is used of a transformers causal LM."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class Span(NamedTuple):
    """The tokens that one row feeds to a forward: `tokens` go to cells `past`, `past` + 1, ... of `slot`."""

    slot: int
    past: int
    tokens: Sequence[int]


class SlotForward:
    """Runs spans of rows through the model. Writes their keys and values, all past the rows' lengths."""

    def __init__(self, model: CausalLM, cache: SlotCache, *, keeps_logits: bool, dtype: torch.dtype) -> None:
        self._model, self._cache, self._dtype = model, cache, dtype
        self._last: dict[str, Any] = {"logits_to_keep": 1} if keeps_logits else {}

    def last_logits(self, spans: Sequence[Span]) -> Tensor:
        """Logits after each span's last token: (R, V) float32."""
        return self._run(spans, self._last)[:, -1].float()

    def all_logits(self, spans: Sequence[Span]) -> list[Tensor]:
        """Logits after every token of each span: (T_r, V) float32 each."""
        logits = self._run(spans, {}).float()
        return [logits[i, -len(span.tokens) :] for i, span in enumerate(spans)]

    def _run(self, spans: Sequence[Span], options: dict[str, Any]) -> Tensor:
        ids, positions, valid = self._pack(spans)
        length = max(span.past + len(span.tokens) for span in spans)
        mask = self._mask(positions, length)
        self._cache.look(cache_view(self._cache, [span.slot for span in spans], positions, valid, length))
        try:
            return self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=self._cache,
                use_cache=True,
                **options,
            ).logits
        finally:
            self._cache.look(None)

    def _pack(self, spans: Sequence[Span]) -> tuple[Tensor, Tensor, Tensor | None]:
        """ids and positions (R, T), padded on the left with 0 so that every span ends in the last column."""
        device = self._cache.device
        width = max(len(span.tokens) for span in spans)
        if width == 1:
            ids = torch.tensor([span.tokens for span in spans], device=device)
            return ids, torch.tensor([[span.past] for span in spans], device=device), None
        pads = [width - len(span.tokens) for span in spans]
        ids = torch.tensor(
            [[0] * pad + list(span.tokens) for pad, span in zip(pads, spans, strict=True)], device=device
        )
        starts = torch.tensor([span.past - pad for pad, span in zip(pads, spans, strict=True)], device=device)
        columns = torch.arange(width, device=device)
        valid = columns >= torch.tensor(pads, device=device)[:, None]
        positions = (starts[:, None] + columns) * valid
        return ids, positions, valid if any(pads) else None

    def _mask(self, positions: Tensor, length: int) -> Tensor:
        """(R, 1, T, length): 0 up to each query's own position, -inf behind. Padding sees the first cell alone."""
        hidden = torch.arange(length, device=positions.device) > positions[:, :, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=positions.device)
        return mask.masked_fill_(hidden, -torch.inf)[:, None]


class Turn(NamedTuple):
    """A row's claim to read a piece of its prompt: the step of its last piece or start, the next's length, its kind."""

    read_at: int
    tokens: int
    scored: bool


def choose_prompts(waiting: Sequence[Turn], budget: int) -> list[int]:
    """Indices of the rows that read now: those that have waited longest, and always one if there is one.

    More join while the padded piece (rows times longest piece) stays within `budget` tokens. Rows that score their
    prompt need all logits, and do not share a forward with rows that do not.
    """
    taken: list[int] = []
    width = 0
    for i in sorted(range(len(waiting)), key=lambda i: waiting[i].read_at):
        grown = max(width, waiting[i].tokens)
        alike = not taken or waiting[taken[0]].scored == waiting[i].scored
        if not taken or (alike and grown * (len(taken) + 1) <= budget):
            taken.append(i)
            width = grown
    return taken
