"""Owns what a row needs to run: plain data between tasks and sampler. Never sees a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.nn.audio import RowAudio


@dataclass(frozen=True, slots=True)
class Turn:
    """One sound of a row: of which label, and the most frames that it may have."""

    label: int
    frames: int


@dataclass(frozen=True, slots=True, eq=False)
class WaveParams:
    """Sounds that are drawn one after the other, with `gap` silent samples between them, and written to one file."""

    task: str
    seed: int
    turns: Sequence[Turn]
    temperature: float
    gap: int
    output: RowAudio

    @property
    def cost(self) -> float:
        """A frame is the unit; where a sound ends is known only afterwards, so the most that it may have count."""
        return float(sum(turn.frames for turn in self.turns))
