"""Owns what one step does to one row: computed without touching the row, then committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from services.families.transformer.state import SlotRow
from services.nn.text.params import RawLogprob
from services.nn.text.rows import Spoken

RowT = TypeVar("RowT", bound=SlotRow)


@dataclass(frozen=True, slots=True)
class Advance(Generic[RowT]):
    """One row's step, ready to commit. `fed` tokens were read or entered the cache; `token` was chosen, unless more of
    the prompt comes.

    `finite` False: the row's values are no numbers, and it has failed.
    """

    row: RowT
    fed: int
    finite: bool
    prompt_logprobs: tuple[RawLogprob, ...] = ()
    token: int | None = None
    spoken: Spoken | None = None

    @property
    def units(self) -> float:
        """Prompt tokens read and tokens made."""
        read = 0 if self.row.decoding else self.fed
        return float(read + (self.token is not None and self.row.params.max_new_tokens > 0))
