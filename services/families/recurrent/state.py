"""Owns a running row of a recurrent net, and what a step does to it before it is committed. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from services.nn.text.advance import Advance
from services.nn.text.rows import TextRow


@dataclass(slots=True, eq=False)
class RowState(TextRow):
    """A generating row. Only a step's commit changes it.

    `state` (S, L, H) is what the net keeps of the `length` tokens that it has read.
    """

    state: Tensor | None = None  # None: nothing was read, or the row has left
    length: int = 0
    read_at: int = 0  # the step that last read a piece of the prompt, or that the row started at

    def piece(self, size: int) -> tuple[int, ...]:
        """What the net reads next of the prompt, `size` tokens at most."""
        return self.params.prompt[self.length : self.length + size]


@dataclass(frozen=True, slots=True, eq=False)
class Move(Advance[RowState]):
    """One row's step, with the state (S, L, H) that it is to have."""

    state: Tensor = field(kw_only=True)
