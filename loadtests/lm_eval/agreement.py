"""Owns how far two runs of the harness on the same items are apart. Never sees a model."""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.lm_eval.harness import Run

TOLERANCE = 1e-3  # of a log-likelihood, which is a sum over some tokens: float32 in unlike batches leaves 1e-5


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two runs: the items and choices, the largest difference of log-likelihoods, and what else is unlike."""

    items: int
    choices: int
    largest: float
    unlike_greedy: int
    unlike_figures: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.largest <= TOLERANCE and not self.unlike_greedy and not self.unlike_figures


def agreement(mine: Run, theirs: Run) -> Agreement:
    """Raises ValueError for runs of unlike items."""
    if [(item.number, item.target) for item in mine.items] != [(item.number, item.target) for item in theirs.items]:
        raise ValueError("the runs are not of the same items")
    pairs = [
        (one, other)
        for a, b in zip(mine.items, theirs.items, strict=True)
        for one, other in zip(
            zip(a.likelihoods, a.greedy, strict=True), zip(b.likelihoods, b.greedy, strict=True), strict=True
        )
    ]
    return Agreement(
        items=len(mine.items),
        choices=len(pairs),
        largest=max(abs(one - other) for (one, _), (other, _) in pairs),
        unlike_greedy=sum(one != other for (_, one), (_, other) in pairs),
        unlike_figures=tuple(name for name, value in mine.figures.items() if value != theirs.figures[name]),
    )
