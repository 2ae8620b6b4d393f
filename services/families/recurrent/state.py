"""Owns a running row of a recurrent net, and what a step does to it before it is committed. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from services.nn.text.params import RawLogprob, ReadyParams
from services.nn.text.rows import Spoken, TextRow


@dataclass(slots=True, eq=False)
class ReadyState:
    """A row whose answer is known; it has no state."""

    params: ReadyParams


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
class Move:
    """One row's step, ready to commit. `token` was chosen, unless more of the prompt comes.

    `finite` False: the row's values are no numbers, and it has failed.
    """

    row: RowState
    fed: int
    finite: bool
    state: Tensor  # (S, L, H)
    prompt_logprobs: tuple[RawLogprob, ...] = ()
    token: int | None = None
    spoken: Spoken | None = None

    @property
    def units(self) -> float:
        """Prompt tokens read and tokens made; a row that only scores its prompt makes none."""
        read = 0 if self.row.decoding else self.fed
        return float(read + (self.token is not None and self.row.params.max_new_tokens > 0))
