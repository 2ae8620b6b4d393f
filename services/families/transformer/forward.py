"""Owns a step's forward over the slot cache: tokens of decoding rows, and pieces of some prompts.

The model is a transformers causal LM, unchanged: it is given explicit positions and a 4-D additive mask. All tokens of
a step go through it as one sequence, so that its weights are read once, and only attention meets padding. A model whose
attention cannot be told of that takes one padded batch after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from services.nn.attention import RowGroup, flat_mask
from services.nn.kv_cache import CacheView, SlotCache, cache_view, flat_view, row_slots

PROMPT_TOKENS_PER_ROW = (
    16  # by `python -m loadtests.bench --only http`: 4 let 64 clients wait longer, 32 the first ones
)


class CausalLM(Protocol):
    """What is used of a transformers causal LM."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class Span(NamedTuple):
    """The tokens that one row feeds to a forward: `tokens` go to cells `past`, `past` + 1, ... of `slot`.

    Logits are wanted behind the last `keep` of them.
    """

    slot: int
    past: int
    tokens: Sequence[int]
    keep: int = 1


@dataclass(frozen=True, slots=True)
class _Batch:
    """Spans of like lengths, padded on the left with 0 so that each ends in the last column.

    ids and positions (R, T); valid (R, T) bool, None if there is no padding; mask (R, 1, T, L).
    """

    spans: Sequence[Span]
    ids: Tensor
    positions: Tensor
    valid: Tensor | None
    mask: Tensor

    @property
    def slots(self) -> list[int]:
        return [span.slot for span in self.spans]

    def flat(self) -> tuple[Tensor, Tensor]:
        """ids and positions of what is no padding, row by row."""
        if self.valid is None:
            return self.ids.flatten(), self.positions.flatten()
        return self.ids[self.valid], self.positions[self.valid]


class SlotForward:
    """Runs spans of rows through the model. Writes their keys and values, all past the rows' lengths.

    `flat`: whether the model's attention knows what goes with the mask of a flat forward. `keeps_logits`: whether it
    can compute some tokens' logits alone.
    """

    def __init__(
        self, model: CausalLM, cache: SlotCache, *, flat: bool, keeps_logits: bool, dtype: torch.dtype
    ) -> None:
        self._model, self.cache, self._dtype = model, cache, dtype
        self.flat, self._keeps_logits = flat, keeps_logits

    def logits(self, decoding: Sequence[Span], reading: Sequence[Span] = ()) -> Tensor:
        """Logits behind the last `keep` tokens of each span, in order: (P, V) float32.

        `decoding` spans are a token, and what is guessed to follow it; `reading` ones are pieces of prompts.
        """
        if not self.flat:
            return torch.cat([self._run_padded(self._batch(spans)) for spans in (decoding, reading) if spans]).float()
        parts = _parts(decoding)
        batches = [self._batch(spans) for spans in (*parts, reading) if spans]
        if len(batches) == 1 and batches[0].valid is None:
            return self._run_padded(batches[0]).float()
        return self._run_flat(batches, _places(decoding, reading, apart=len(parts) > 1)).float()

    def _run_flat(self, batches: Sequence[_Batch], places: Sequence[int]) -> Tensor:
        """`places`: the tokens, among all of the batches, whose logits are wanted."""
        device = self.cache.device
        wanted = torch.tensor(places, device=device)
        spans = [span for batch in batches for span in batch.spans]
        slots = torch.tensor([span.slot for span in spans], device=device)
        slots = slots.repeat_interleave(torch.tensor([len(span.tokens) for span in spans], device=device))
        ids, positions = (torch.cat(pieces) for pieces in zip(*map(_Batch.flat, batches), strict=True))
        view = flat_view(self.cache, slots, positions)
        logits = self._run(ids[None], positions[None], flat_mask(_groups(batches)), view, wanted)[0]
        return logits if self._keeps_logits else logits[wanted]

    def _run_padded(self, batch: _Batch) -> Tensor:
        most = max(span.keep for span in batch.spans)
        view = cache_view(self.cache, batch.slots, batch.positions, batch.valid, batch.mask.shape[-1])
        logits = self._run(batch.ids, batch.positions, batch.mask, view, most)
        return torch.cat([logits[i, logits.shape[1] - span.keep :] for i, span in enumerate(batch.spans)])

    def _run(self, ids: Tensor, positions: Tensor, mask: Tensor, view: CacheView, kept: int | Tensor) -> Tensor:
        """`kept`: how many of the last logits are needed, or which."""
        self.cache.look(view)
        try:
            return self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=self.cache,
                use_cache=True,
                **({"logits_to_keep": kept} if self._keeps_logits else {}),
            ).logits
        finally:
            self.cache.look(None)

    def _batch(self, spans: Sequence[Span]) -> _Batch:
        device = self.cache.device
        width = max(len(span.tokens) for span in spans)
        length = max(span.past + len(span.tokens) for span in spans)
        pads = [width - len(span.tokens) for span in spans]
        ids = torch.tensor(
            [[0] * pad + list(span.tokens) for pad, span in zip(pads, spans, strict=True)], device=device
        )
        starts = torch.tensor([span.past - pad for pad, span in zip(pads, spans, strict=True)], device=device)
        columns = torch.arange(width, device=device)
        positions, valid = starts[:, None] + columns, None
        if any(pads):
            valid = columns >= torch.tensor(pads, device=device)[:, None]
            positions = positions * valid
        return _Batch(spans, ids, positions, valid, self._mask(positions, length))

    def _mask(self, positions: Tensor, length: int) -> Tensor:
        """(R, 1, T, length): 0 up to each query's own position, -inf behind. Padding sees the first cell alone."""
        hidden = torch.arange(length, device=positions.device) > positions[:, :, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=positions.device)
        return mask.masked_fill_(hidden, -torch.inf)[:, None]


def _parts(decoding: Sequence[Span]) -> Sequence[Sequence[Span]]:
    """What attention takes together: where only some rows guess, all first tokens, and then those behind them.

    One query of each of many rows has the faster kernel, which one row's guesses shall not take from the others.
    """
    if len({len(span.tokens) for span in decoding}) < 2:
        return (decoding,)
    firsts = [Span(span.slot, span.past, span.tokens[:1]) for span in decoding]
    return firsts, [Span(span.slot, span.past + 1, span.tokens[1:]) for span in decoding if len(span.tokens) > 1]


def _places(decoding: Sequence[Span], reading: Sequence[Span], *, apart: bool) -> list[int]:
    """Where the tokens whose logits are wanted come, of those of `_parts(decoding)`, `apart` if two, and `reading`."""
    at = len(decoding) if apart else 0
    places: list[int] = []
    for i, span in enumerate([*decoding, *reading]):
        first = [i] if apart and i < len(decoding) else []
        rest = range(at, at + len(span.tokens) - len(first))
        places += [*first, *rest][-span.keep :]
        at = rest.stop
    return places


def _groups(batches: Sequence[_Batch]) -> list[RowGroup]:
    """Each batch as attention finds it among the tokens of all."""
    groups: list[RowGroup] = []
    start = 0
    for batch in batches:
        valid = None if batch.valid is None else batch.valid.flatten()
        stop = start + sum(len(span.tokens) for span in batch.spans)
        tokens = slice(start, stop) if valid is None else start + (valid.cumsum(0) - 1).clamp_(min=0)
        groups.append(RowGroup(row_slots(batch.slots, batch.ids.device), tokens, valid, batch.mask))
        start = stop
    return groups


class Turn(NamedTuple):
    """A row's claim to read a piece of its prompt: the step of its last piece or start, and the next's length.

    `block`: the key of what the row need not read if another row has.
    """

    read_at: int
    tokens: int
    block: bytes | None = None


def prompt_budget(piece: int, rows: int) -> int:
    """Tokens of prompts that a step reads at most, of which a row has a piece.

    It grows with the rows, decoding or not: they all wait for the step's fixed cost, and one piece a step would keep
    the last of many that come at once waiting for as many steps.
    """
    return max(piece, PROMPT_TOKENS_PER_ROW * rows)


def choose_prompts(waiting: Sequence[Turn], budget: int, *, padded: bool = True) -> list[int]:
    """Indices of the rows that read now: those that have waited longest, and always one if there is one.

    More join while their pieces stay within `budget` tokens, each counted as the longest if they are `padded`. No two
    read the same block.
    """
    taken: list[int] = []
    blocks: set[bytes | None] = set()
    width = total = 0
    for i in sorted(range(len(waiting)), key=lambda i: waiting[i].read_at):
        longest = max(width, waiting[i].tokens)
        grown = longest * (len(taken) + 1) if padded else total + waiting[i].tokens
        if not taken or (grown <= budget and waiting[i].block not in blocks):
            taken.append(i)
            width, total = longest, grown
            blocks |= {waiting[i].block} - {None}
    return taken
