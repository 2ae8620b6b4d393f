"""Owns a running row, and which row has which slot of the cache. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from services.families.transformer.params import GenerateParams, RawLogprob, ReadyParams
from services.families.transformer.sampling import Choice, Seen
from services.families.transformer.text import TextState
from services.nn.kv_cache import SlotCache
from services.nn.rng import row_generator


@dataclass(slots=True, eq=False)
class ReadyState:
    """A row whose answer is known; it has no slot."""

    params: ReadyParams


@dataclass(slots=True, eq=False)
class RowState:
    """A generating row. Only a step's commit changes it, but for `dirty`.

    `length` tokens are in the cache; `token` is chosen and not in it yet (None: the prompt is still being read).
    `uniform` is the next draw, made ahead, so that a step that fails has drawn nothing. `blocks` names the whole blocks
    of the prompt (`block_keys`); none where prefixes are not shared.
    """

    params: GenerateParams
    seen: Seen
    text: TextState
    blocks: tuple[bytes, ...] = ()
    slot: int = -1
    length: int = 0
    cached: int = 0  # tokens of the prompt that were found instead of read
    token: int | None = None
    generated: int = 0
    held: str = ""  # text that may be the beginning of a stop string
    characters: int = 0  # of text made so far, held text included
    logprobs: tuple[tuple[int, RawLogprob], ...] = ()  # of held text: (characters made at its end, it)
    prompt_logprobs: tuple[RawLogprob, ...] = ()
    read_at: int = 0  # the step that last read a piece of the prompt, or that the row started at
    dirty: bool = False  # cells past `length` may hold anything, nan included
    rng: torch.Generator = field(init=False)
    uniform: float = field(init=False)

    def __post_init__(self) -> None:
        self.rng = row_generator(self.params.seed)
        self.draw()

    @property
    def decoding(self) -> bool:
        return self.token is not None

    @property
    def wants_prompt_logprobs(self) -> bool:
        return self.params.echo is not None and self.params.logprobs is not None

    def draw(self) -> None:
        self.uniform = torch.rand((), generator=self.rng).item()

    def choice(self, eos: tuple[int, ...]) -> Choice:
        banned = eos if self.generated < self.params.min_tokens else ()
        return Choice(self.params.sampling, self.seen, self.uniform, banned)


class SlotTable:
    """Rows by slot: a dense prefix of the cache, decoding rows first, so that a step reads it without gathering.

    Slots behind the prefix hold finite values only: who leaves or moves while dirty has its old slot wiped.
    """

    def __init__(self, cache: SlotCache) -> None:
        self._cache = cache
        self._rows: list[RowState] = []
        self._decoding = 0

    def __len__(self) -> int:
        return len(self._rows)

    def join(self, row: RowState, max_slots: int) -> None:
        """Give a new row the slot behind the last one, growing the cache to hold the longest final length."""
        rows = [*self._rows, row]
        self._cache.reserve(
            len(rows),
            max(each.params.length for each in rows),
            max_slots=max_slots,
            used=len(self._rows),
            used_length=max((each.length for each in self._rows), default=0),
        )
        row.slot = len(self._rows)
        self._rows = rows

    def promote(self, row: RowState) -> None:
        """The row's prompt is read: it changes places with the first row that still reads."""
        other = self._rows[self._decoding]
        if other is not row:
            whole = row.dirty or other.dirty  # what lies past the length must leave with its row, to be wiped
            length = self._cache.capacity if whole else max(row.length, other.length)
            self._cache.swap_rows(row.slot, other.slot, length)
            row.slot, other.slot = other.slot, row.slot
            self._rows[row.slot], self._rows[other.slot] = row, other
        self._decoding += 1

    def leave(self, row: RowState) -> None:
        """Free a row's slot; the last decoding row, then the last row, fill the gap. The last row out frees all."""
        if row.dirty:
            self._cache.wipe_row(row.slot)
        gap = row.slot
        if gap < self._decoding:
            self._decoding -= 1
            self._move(self._decoding, gap)
            gap = self._decoding
        self._move(len(self._rows) - 1, gap)
        self._rows.pop()
        row.slot = -1
        if not self._rows:
            self._cache.clear()

    def _move(self, source: int, target: int) -> None:
        """Put the row of one slot over the gap at another; the source is the gap then, and holds finite values."""
        if source != target:
            mover = self._rows[source]
            self._cache.copy_row(source, target, mover.length)
            if mover.dirty:
                self._cache.wipe_row(source)
            self._rows[target], mover.slot = mover, target
