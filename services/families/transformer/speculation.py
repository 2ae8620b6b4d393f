"""Owns how many guessed tokens a decoding step checks. Never sees a tensor or a row.

Speculative decoding (Leviathan 2023, arXiv:2211.17192) gains where a step's time is that of reading the weights: the
tokens that ride along are almost free. Where the arithmetic takes longer, each costs as much as it may save.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

LARGEST_BALANCE = 64.0


@dataclass(frozen=True, slots=True)
class Speculation:
    """`most` tokens are guessed ahead for a row. `balance`: in a forward of so many tokens, reading the weights takes
    as long as computing with them, so that one of M tokens takes some time in proportion to `balance` + M.
    """

    most: int
    balance: float

    def counts(self, hopes: Sequence[float], lengths: Sequence[int], beside: int = 0) -> list[int]:
        """How many guessed tokens each row feeds behind its own: those that make the most tokens in a time.

        `hopes`: each row's probability that a guessed token is right, given that those before it are; `lengths`: of its
        guess. `beside`: tokens of prompts in the same forward, each as good as one that is made.
        """
        counts = [0] * len(hopes)
        chances = [
            (hope**place, row)
            for row, (hope, length) in enumerate(zip(hopes, lengths, strict=True))
            for place in range(1, length + 1)
        ]
        made = fed = float(len(hopes) + beside)
        for chance, row in sorted(chances, reverse=True):
            if chance * (self.balance + fed) <= made:
                break
            made, fed, counts[row] = made + chance, fed + 1, counts[row] + 1
        return counts


def balance_of(times: Mapping[int, float]) -> float:
    """From the seconds that forwards of so many tokens take, to the nearest power of two.

    So coarse that it comes out alike at every start: how many tokens a step is given, and with it the rounding of its
    results, depends on it. What was not measured is taken for a device that computes much faster than it reads.
    """
    (one, one_s), (many, many_s) = sorted(times.items()) or [(1, 0.0), (2, 0.0)]
    per_token = (many_s - one_s) / (many - one)
    if per_token <= 0:
        return LARGEST_BALANCE
    return min(LARGEST_BALANCE, 2.0 ** round(log2(max(1.0, one_s / per_token - one))))
