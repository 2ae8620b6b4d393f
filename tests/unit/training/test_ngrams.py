"""N-gram baselines: probabilities that sum to one, and the rule as it is written in the paper."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from services.training.ngrams import NgramModel

DOCUMENTS = [[0, 2, 3, 2, 3, 4], [0, 2, 2, 3], [0, 4]]
VOCABULARY = 6


def told(history: list[int], token: int, order: int) -> float:
    """p by counting, one history after the other."""
    if order == 0:
        return 1 / VOCABULARY
    before = tuple(([None] * order + history)[len(history) + 1 :])  # type: ignore[operator]
    followers: Counter[int] = Counter()
    for document in DOCUMENTS:
        for at in range(1, len(document)):
            padded = [None] * order + document[:at]
            if tuple(padded[len(padded) - order + 1 :] if order > 1 else ()) == before:
                followers[document[at]] += 1
    lower = told(history, token, order - 1)
    if not followers:
        return lower
    return (followers[token] + len(followers) * lower) / (followers.total() + len(followers))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_bits_are_those_of_counting_by_hand(order: int) -> None:
    held_out = [[0, 2, 3, 5, 4], [0, 3, 2, 3]]
    bits = NgramModel(DOCUMENTS, order, VOCABULARY).document_bits(held_out)
    by_hand = sum(-math.log2(told(doc[:at], doc[at], order)) for doc in held_out for at in range(1, len(doc)))
    assert bits[order - 1] == pytest.approx(by_hand)


@pytest.mark.parametrize("history", [[0], [0, 2], [0, 2, 3], [0, 5, 5]])
def test_what_may_follow_sums_to_one(history: list[int]) -> None:
    model = NgramModel(DOCUMENTS, 3, VOCABULARY)
    before = model.document_bits([history])[-1] if len(history) > 1 else 0.0
    shares = [2 ** (before - model.document_bits([[*history, token]])[-1]) for token in range(VOCABULARY)]
    assert sum(shares) == pytest.approx(1)


def test_orders_that_64_bits_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="9-grams of 258 tokens"):
        NgramModel(DOCUMENTS, 9, 258)


def test_a_models_counts_are_its_different_ngrams() -> None:
    model = NgramModel(DOCUMENTS, 2, VOCABULARY)
    assert (model.counts(1), model.counts(2)) == (3, 3 + 6)  # 02, 04, 22, 23, 32, 34
