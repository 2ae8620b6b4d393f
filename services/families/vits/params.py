"""Owns what a row needs to run: plain data between the task and the sampler. Never sees a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.nn.audio import RowAudio

WINDOW = 64  # frames of sound that a step makes, some three quarters of a second
STEPS_BEFORE = 2  # of a sentence, until there are frames to make sound of
_FRAMES = 4.0  # of a phoneme at speed 1, about


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said in one go, and so many silent samples after it: the graph's ids, and how many phonemes they are."""

    ids: Sequence[int]
    phonemes: int
    silence: int


@dataclass(frozen=True, slots=True, eq=False)
class SpeechParams:
    """Sentences, or pieces of long ones, that are said one after the other and written to one file.

    `temperature` is a factor of the voice's own noise.
    """

    task: str
    seed: int
    sentences: Sequence[Sentence]
    temperature: float
    speed: float
    output: RowAudio

    @property
    def cost(self) -> float:
        """A phoneme at speed 1 is the unit."""
        return sum(map(self.cost_of, self.sentences))

    @property
    def predicted_steps(self) -> float:
        frames = (each.phonemes * _FRAMES / self.speed for each in self.sentences)
        return float(sum(STEPS_BEFORE + max(1, math.ceil(each / WINDOW)) for each in frames))

    def cost_of(self, sentence: Sentence) -> float:
        return sentence.phonemes / self.speed
