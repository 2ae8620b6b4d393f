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

    def width(self, hopes: Sequence[float]) -> int:
        """How many tokens each row feeds, its guesses included: that which makes the most tokens in a time.

        `hopes`: each row's probability that a guessed token is right, given that those before it are; 0 where it has
        none. All rows are padded to one width.
        """
        best, best_rate, made = 1, 0.0, 0.0
        chances = [1.0] * len(hopes)
        for width in range(1, self.most + 2):
            made += sum(chances)
            rate = made / (self.balance + width * len(hopes))
            if rate > best_rate:
                best, best_rate = width, rate
            chances = [chance * hope for chance, hope in zip(chances, hopes, strict=True)]
        return best


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
