"""Owns figures of models that draw and score records, each beside a baseline. Never sees a network.

Judges are scikit-learn's gradient-boosted trees, seeded: all is the same on each run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.nn.records import Entries, Table
from services.training.recipe import Figure
from services.training.record_data import OUTCOME, RecordSplit
from services.training.separation import auroc

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

DrawRecords = Callable[[int], Entries]  # so many records; the same each time
ScoreRecords = Callable[[Entries], Tensor]  # (N,), the higher the likelier; the same each time
_ROUNDS = 100  # trees of a judge
_SHRINKAGE = 0.05  # of the Gaussian's covariance, towards the identity


def record_figures(draw: DrawRecords, split: RecordSplit, outcome: str = OUTCOME) -> Iterator[Figure]:
    """Whether drawn records, as many as were trained on, are of use, look real, and are no copies."""
    drawn = draw(len(split.train))
    table = split.table
    yield _utility(drawn, split, outcome)
    yield Figure(
        "c2st_accuracy",
        told_apart(table, split.train, drawn),
        "lower",
        tolerance=0.03,
        baseline=told_apart(table, split.train, shuffled(split.train)),
        baseline_name="each column drawn on its own",
        meaning="how often gradient-boosted trees, in five folds, tell drawn records from training records; 0.5 is "
        "chance (classifier two-sample test, arXiv:1610.06545)",
    )
    yield Figure(
        "marginal_distance",
        marginal_distance(table, drawn, split.held_out),
        "lower",
        tolerance=0.01,
        baseline=marginal_distance(table, split.train, split.held_out),
        baseline_name="the training records",
        meaning="to held-out records, mean over columns: Wasserstein distance of numbers scaled to [0, 1], total "
        "variation of categories",
    )
    nearest, held_out = (nearest_distance(table, each, split.train) for each in (drawn, split.held_out))
    yield Figure(
        "nearest_training_record",
        nearest.median().item(),
        "higher",
        tolerance=0.05,
        baseline=held_out.median().item(),
        baseline_name="held-out records",
        meaning="median distance of a drawn record to the training record nearest to it (root mean square over scaled "
        "columns): far below the baseline would be copying",
    )
    yield Figure(
        "copies",
        (nearest < 1e-6).double().mean().item(),
        "lower",
        tolerance=0.002,
        baseline=(held_out < 1e-6).double().mean().item(),
        baseline_name="held-out records",
        meaning="share of drawn records that equal a training record in every column",
    )


def anomaly_figure(score: ScoreRecords, split: RecordSplit) -> Figure:
    """Whether scores find records whose columns do not belong together."""
    gaussian = _Gaussian(split.table, split.train)
    return Figure(
        "anomaly_auroc",
        anomaly_auroc(score, split.held_out),
        "higher",
        tolerance=0.02,
        baseline=anomaly_auroc(gaussian.score, split.held_out),
        baseline_name="a Gaussian fitted to the training records",
        meaning="how often a held-out record scores above one whose columns are each of another held-out record; 0.5 "
        "is chance, and the best that columns one by one can say",
    )


def sample_record_figures(draw: DrawRecords, score: ScoreRecords, table: Table, sample: Entries) -> Iterator[Figure]:
    """What the held-out records beside the weights say alone, in a second."""
    yield Figure(
        "sample_marginal_distance",
        marginal_distance(table, draw(len(sample)), sample),
        "lower",
        tolerance=0.01,
        baseline=marginal_distance(table, _uniform(table, len(sample)), sample),
        baseline_name="even draws",
        meaning="of as many drawn records to the committed sample of held-out records",
    )
    yield Figure(
        "sample_anomaly_auroc",
        anomaly_auroc(score, sample),
        "higher",
        tolerance=0.02,
        baseline=0.5,
        baseline_name="chance",
        meaning="how often a record of that sample scores above one whose columns are each of another",
    )


def outcome_auroc(table: Table, train: Entries, test: Entries, outcome: str) -> float:
    """How well trees that learned `outcome`, a column of two categories, on `train` predict it on `test`; 0.5 if
    `train` holds one outcome alone."""
    column = [each.name for each in table.categories].index(outcome)
    (inputs, known), (asked, truth) = (_without(table, each, column) for each in (train, test))
    if len(np.unique(known)) < 2:
        return 0.5
    chances = _judge().fit(inputs, known).predict_proba(asked)[:, 1]
    return auroc(torch.from_numpy(chances[truth == 1]), torch.from_numpy(chances[truth == 0]))


def told_apart(table: Table, real: Entries, drawn: Entries) -> float:
    """Accuracy, in five folds, of trees that tell one from the other; as many of each."""
    count = min(len(real), len(drawn))
    parts = [each.subset(slice(count)) for each in (real, drawn)]
    inputs = np.concatenate([_inputs(table, part) for part in parts])
    labels = np.repeat([0, 1], count)
    from sklearn.model_selection import StratifiedKFold, cross_val_predict  # noqa: PLC0415 - of the `train` extra

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(np.mean(cross_val_predict(_judge(), inputs, labels, cv=folds) == labels))


def marginal_distance(table: Table, a: Entries, b: Entries) -> float:
    """Mean over columns, each in [0, 1]: Wasserstein-1 of numbers over the width of their range, total variation."""
    numbers = [
        _wasserstein(a.numbers[:, i], b.numbers[:, i]) / (each.maximum - each.minimum)
        for i, each in enumerate(table.numbers)
    ]
    codes = [
        (_shares(a.codes[:, i], size) - _shares(b.codes[:, i], size)).abs().sum().item() / 2
        for i, size in enumerate(table.block_sizes)
    ]
    return sum(numbers + codes) / len(table.columns)


def nearest_distance(table: Table, records: Entries, known: Entries) -> Tensor:
    """float64 (N,): of each record to the nearest known one, the root of what `Table.error` is."""
    a, b = (_points(table, each) for each in (records, known))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1).values


def anomaly_auroc(score: ScoreRecords, records: Entries) -> float:
    return auroc(score(records), score(shuffled(records)))


def shuffled(records: Entries, seed: int = 0) -> Entries:
    """Every column in another order: each is as it was, and none has to do with another."""
    generator = torch.Generator().manual_seed(seed)

    def mix(values: Tensor) -> Tensor:
        columns = [column[torch.randperm(len(column), generator=generator)] for column in values.unbind(1)]
        return torch.stack(columns, dim=1) if columns else values

    return Entries(mix(records.numbers), mix(records.codes))


class _Gaussian:
    """The log density, up to a constant, of one Gaussian over features."""

    def __init__(self, table: Table, train: Entries) -> None:
        self._table = table
        features = table.features(train).double()
        self._mean = features.mean(dim=0)
        spread = torch.cov(features.T)
        identity = torch.eye(len(spread), dtype=torch.float64)
        self._precision = ((1 - _SHRINKAGE) * spread + _SHRINKAGE * identity).inverse()

    def score(self, records: Entries) -> Tensor:
        centred = self._table.features(records).double() - self._mean
        return -((centred @ self._precision) * centred).sum(dim=1) / 2


def _utility(drawn: Entries, split: RecordSplit, outcome: str) -> Figure:
    return Figure(
        "tstr_auroc",
        outcome_auroc(split.table, drawn, split.held_out, outcome),
        "higher",
        tolerance=0.02,
        baseline=outcome_auroc(split.table, split.train, split.held_out, outcome),
        baseline_name="trained on the training records",
        meaning=f"of gradient-boosted trees that learn to predict '{outcome}' from drawn records alone, on held-out "
        "ones; 0.5 is chance",
    )


def _judge() -> HistGradientBoostingClassifier:
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - of the `train` extra

    return HistGradientBoostingClassifier(max_iter=_ROUNDS, random_state=0)


def _inputs(table: Table, entries: Entries) -> NDArray[np.float32]:
    return table.features(entries).numpy()


def _without(table: Table, entries: Entries, column: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features without a column of categories, and its codes."""
    blocks = list(table.blocks(table.one_hot(entries.codes)))
    del blocks[column]
    inputs = torch.cat([table.to_normal(entries.numbers).float(), *blocks], dim=1)
    return inputs.numpy(), entries.codes[:, column].numpy()


def _points(table: Table, entries: Entries) -> Tensor:
    """float64 (N, D + K), whose squared distances are the errors of `Table.error`."""
    numbers, blocks = table.to_normal(entries.numbers), table.one_hot(entries.codes).double() / 2**0.5
    return torch.cat([numbers, blocks], dim=1) / len(table.columns) ** 0.5


def _wasserstein(a: Tensor, b: Tensor) -> float:
    """The area between two distribution functions of samples (N,) and (M,)."""
    a, b = a.double().sort().values, b.double().sort().values
    every = torch.cat([a, b]).sort().values
    shares = [torch.searchsorted(each, every[:-1], right=True).double() / len(each) for each in (a, b)]
    return ((shares[0] - shares[1]).abs() * every.diff()).sum().item()


def _shares(codes: Tensor, size: int) -> Tensor:
    return codes.bincount(minlength=size).double() / len(codes)


def _uniform(table: Table, count: int) -> Entries:
    """Numbers and categories drawn evenly over their ranges."""
    generator = torch.Generator().manual_seed(0)
    numbers = [
        each.minimum + torch.rand(count, generator=generator, dtype=torch.float64) * (each.maximum - each.minimum)
        for each in table.numbers
    ]
    codes = [torch.randint(size, (count,), generator=generator) for size in table.block_sizes]
    empty = torch.empty(count, 0)
    return Entries(
        torch.stack(numbers, dim=1) if numbers else empty.double(),
        torch.stack(codes, dim=1) if codes else empty.long(),
    )
