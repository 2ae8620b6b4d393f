"""Owns what hidden units are worth as features: classifiers on them beside classifiers on pixels. Never serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.training.recipe import Figure

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

_FEW = 64  # dimensions of the smaller comparison
_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # of scikit-learn's C: the smaller, the more weights are held down
_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """pixels (N, D) of 0 and 1, hidden (N, H), classes (N,)."""

    pixels: _Array
    hidden: _Array
    classes: NDArray[np.int64]


def feature_figures(training: Examples, held_out: Examples) -> Iterator[Figure]:
    """Accuracy of logistic regressions on hidden units, on pixels, and on as many principal components."""
    from sklearn.decomposition import PCA  # noqa: PLC0415 - of the `train` extra

    size = training.hidden.shape[1]
    yield _figure(
        "feature_accuracy",
        accuracy(training, held_out, training.hidden, held_out.hidden),
        accuracy(training, held_out, training.pixels, held_out.pixels),
        f"on the {training.pixels.shape[1]} pixels",
        f"held-out accuracy of a logistic regression on the means of all {size} hidden units",
    )
    for count in dict.fromkeys((size, min(_FEW, size))):
        components = PCA(min(count, *training.pixels.shape), svd_solver="full").fit(training.pixels)
        yield _figure(
            f"feature_accuracy_of_{count}",
            accuracy(training, held_out, training.hidden[:, :count], held_out.hidden[:, :count]),
            accuracy(training, held_out, components.transform(training.pixels), components.transform(held_out.pixels)),
            f"on {count} principal components",
            f"the same of the first {count} numbers of an embedding",
        )


def accuracy(training: Examples, held_out: Examples, seen: _Array, unseen: _Array) -> float:
    """Of features (N, F) and (M, F), centred and scaled as a whole: principal components keep their proportions.

    How strongly weights are held down is chosen for each kind of features by every fifth training example.
    """
    centre = seen.mean(0)
    scale = float(np.sqrt(np.square(seen - centre).mean())) + 1e-6
    x, y = (seen - centre) / scale, training.classes
    chosen = np.arange(len(x)) % 5 == 4

    def score(strength: float) -> float:
        return float(_fit(strength, x[~chosen], y[~chosen]).score(x[chosen], y[chosen]))

    best = _fit(max(_STRENGTHS, key=score), x, y)
    return float(best.score((unseen - centre) / scale, held_out.classes))


def _fit(strength: float, x: _Array, y: NDArray[np.int64]) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - of the `train` extra

    return LogisticRegression(C=strength, max_iter=200).fit(x, y)


def _figure(name: str, value: float, baseline: float, baseline_name: str, meaning: str) -> Figure:
    return Figure(
        name, value, "higher", tolerance=0.015, baseline=baseline, baseline_name=baseline_name, meaning=meaning
    )
