"""Owns how long prompts and answers are: named mixes, drawn from a seed.

Lengths of language are spread widely and to the right: most are short, a few are many times as long. Log-normal
distributions have that form. The named mixes have the means or medians of published traffic; their spread is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Literal

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Whole numbers from `low` to `high` whose logarithm is normal with deviation `sigma`, cut at both ends."""

    median: float
    sigma: float
    low: int
    high: int

    @classmethod
    def of_mean(cls, mean: float, *, sigma: float, low: int, high: int) -> LogNormal:
        """With this mean, before it is cut."""
        return cls(mean / math.exp(sigma**2 / 2), sigma, low, high)

    def draw(self, rng: Random, *, most: int | None = None) -> int:
        """One draw, of at most `most`: the distribution is cut there, so that no draws pile up at the bound."""
        high = self.high if most is None else max(1, min(self.high, most))
        low = min(self.low, high)
        start, end = _NORMAL.cdf(self._scaled(low - 0.5)), _NORMAL.cdf(self._scaled(high + 0.5))
        chance = start + (end - start) * rng.random()
        if not 0 < chance < 1:  # the bounds lie where the distribution has nothing that a float could tell
            return high if self.median > high else low
        drawn = round(self.median * math.exp(self.sigma * _NORMAL.inv_cdf(chance)))
        return min(high, max(low, drawn))

    def _scaled(self, value: float) -> float:
        return math.log(max(value, 0.5) / self.median) / self.sigma


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens."""

    prompt: LogNormal
    answer: LogNormal

    def draw(self, rng: Random, *, context: int | None, max_answer: int | None) -> Draw:
        """Prompt and answer together within `context`, which also has room for a chat template."""
        most_answer = None if context is None else max(1, context // 2)
        if max_answer is not None:
            most_answer = max_answer if most_answer is None else min(max_answer, most_answer)
        answer = self.answer.draw(rng, most=most_answer)
        most_prompt = None if context is None else int((context - answer) * SURE) - TEMPLATE
        return Draw(self.prompt.draw(rng, most=most_prompt), answer)


@dataclass(frozen=True, slots=True)
class Draw:
    """One request's lengths, in tokens."""

    prompt: int
    answer: int


SURE = 0.6  # prompts are made of words, and their tokens are guessed: this share of the room is filled at most
TEMPLATE = 32

Mix = Literal["short", "chat", "long-prompts"]
LENGTHS: Mapping[Mix, Lengths] = {
    # The means of Alpaca and of ShareGPT: Kwon et al. 2023, Efficient memory management ... (vLLM), section 6.1.
    "short": Lengths(
        LogNormal.of_mean(19, sigma=0.7, low=4, high=256), LogNormal.of_mean(58, sigma=0.7, low=4, high=256)
    ),
    "chat": Lengths(
        LogNormal.of_mean(161, sigma=1.0, low=4, high=2048), LogNormal.of_mean(338, sigma=1.0, low=4, high=2048)
    ),
    # The medians of Azure's trace of code completion, 2023: Patel et al. 2024, Splitwise, figure 3.
    "long-prompts": Lengths(LogNormal(1500, 0.9, 128, 8192), LogNormal(13, 1.0, 1, 512)),
}
