"""Owns a running row, and which row has which slot of the cache. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from services.nn.kv_cache import SlotCache
from services.nn.text.lookup import Lookup
from services.nn.text.rows import Spoken, TextRow


@dataclass(slots=True, eq=False)
class SlotRow(TextRow):
    """A generating row that has a slot. Only a step's commit changes it, but for `dirty`.

    `length` tokens that the model has read or made are in the cache.
    """

    slot: int = -1
    length: int = 0
    read_at: int = 0  # the step that last read a piece of the prompt, or that the row started at
    dirty: bool = False  # cells past those may hold anything, nan included

    @property
    def cells(self) -> int:
        """How many of its slot the row has filled."""
        return self.length

    @property
    def room(self) -> int:
        """How many it can come to fill."""
        return self.params.length


@dataclass(slots=True, eq=False)
class RowState(SlotRow):
    """A row of a decoder. `blocks` names the whole blocks of its prompt (`block_keys`); none if none are shared.

    `lookup` guesses tokens ahead, if the row may have any checked.
    """

    blocks: tuple[bytes, ...] = ()
    lookup: Lookup | None = None

    @property
    def scores_prompt(self) -> bool:
        """Whether the row's next piece of its prompt needs the logits behind all its tokens."""
        return not self.decoding and self.wants_prompt_logprobs

    def guess(self, most: int) -> tuple[int, ...]:
        """Tokens that may follow the chosen one, as many as the answer can take behind the next."""
        left = self.params.max_new_tokens - self.generated - 1
        return () if self.lookup is None else self.lookup.guess(min(most, left))

    def take(self, token: int, spoken: Spoken) -> None:
        SlotRow.take(self, token, spoken)
        if self.lookup is not None:
            self.lookup.add(token)


class SlotTable:
    """Rows by slot: a dense prefix of the cache, decoding rows first, so that a step reads it without gathering.

    Slots behind the prefix hold finite values only: who leaves or moves while dirty has its old slot wiped.
    """

    def __init__(self, cache: SlotCache) -> None:
        self._cache = cache
        self._rows: list[SlotRow] = []
        self._decoding = 0

    def __len__(self) -> int:
        return len(self._rows)

    def join(self, row: SlotRow, max_slots: int) -> None:
        """Give a new row the slot behind the last one, growing the cache to hold the longest final length."""
        rows = [*self._rows, row]
        self._cache.reserve(
            len(rows),
            max(each.room for each in rows),
            max_slots=max_slots,
            used=len(self._rows),
            used_length=max((each.cells for each in self._rows), default=0),
        )
        row.slot = len(self._rows)
        self._rows = rows

    def promote(self, row: SlotRow) -> None:
        """The row's prompt is read: it changes places with the first row that still reads."""
        other = self._rows[self._decoding]
        if other is not row:
            whole = row.dirty or other.dirty  # what lies past what is held must leave with its row, to be wiped
            length = self._cache.capacity if whole else max(row.cells, other.cells)
            self._cache.swap_rows(row.slot, other.slot, length)
            row.slot, other.slot = other.slot, row.slot
            self._rows[row.slot], self._rows[other.slot] = row, other
        self._decoding += 1

    def leave(self, row: SlotRow) -> None:
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
            self._cache.copy_row(source, target, mover.cells)
            if mover.dirty:
                self._cache.wipe_row(source)
            self._rows[target], mover.slot = mover, target
