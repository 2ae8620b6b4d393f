"""Owns the scores of images: from readings to free energies, likelihoods and their bound. Never sees a request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from services.families.boltzmann.model import MachineConfig
from services.families.boltzmann.params import ScoreParams
from services.families.boltzmann.reading import Reader, Reading
from services.nn.percentiles import Known
from services.nn.rng import row_generator
from shared.schemas.scores import Metric, Score

Kind = Literal["exact", "lower_bound", "estimate", "unnormalised"]
PIXELS = 100  # that a pseudo-likelihood asks about, unless a request says otherwise
_OF_CLASS = "class_"  # of scores.json: each image scored given its own class


class Value(NamedTuple):
    value: float
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric: what its value is, and whether a greater one means likelier (1) or less likely (-1)."""

    kind: Kind
    of: Callable[[Reader, Reading, int, ScoreParams], Value]
    sign: Literal[1, -1] = 1
    draws: bool = False


def evidence_of(reading: Reading, index: int, label: int | None) -> float:
    """log sum exp(-E) under a class, or under all of them, each as likely."""
    if label is not None:
        return float(reading.evidence[index, label])
    return float(torch.logsumexp(reading.evidence[index] + reading.class_bias, 0))


def _free_energy(reader: Reader, reading: Reading, index: int, row: ScoreParams) -> Value:
    return Value(-evidence_of(reading, index, row.label))


def _log_likelihood(reader: Reader, reading: Reading, index: int, row: ScoreParams) -> Value:
    """evidence - log Z. The error is that of log Z: over all classes, of each by its share in the likelihood."""
    if row.label is not None:
        evidence, log_z = reading.evidence[index, row.label], reader.partition[row.label]
        return Value(float(evidence - log_z), float(reader.partition_error[row.label]))
    error = (reading.posterior[index] * reader.partition_error).square().sum().sqrt()
    return Value(evidence_of(reading, index, None) - float(reader.log_total), float(error))


def _pseudo_log_likelihood(reader: Reader, reading: Reading, index: int, row: ScoreParams) -> Value:
    """D / m times sum_i log p(v_i | all other pixels) over m of the D pixels, drawn without repetition (Besag 1975).

    The error is that of a sample of a finite population: all pixels have none.
    """
    size = len(row.visible)
    pixels = torch.randperm(size, generator=row_generator(row.seed))[: row.samples]
    terms = size * pixel_terms(reader, row.visible, pixels, row.label)
    spread = float(terms.std()) if len(terms) > 1 else math.nan
    error = spread / math.sqrt(len(terms)) * math.sqrt(1 - len(terms) / size)
    return Value(float(terms.mean()), error if math.isfinite(error) else None)


def pixel_terms(reader: Reader, visible: Tensor, pixels: Tensor, label: int | None) -> Tensor:
    """log p(v_i | all other pixels) (m,) float64 of pixels i (m,) int64 of an image (D,), of a restricted machine.

    It is log sigmoid(F(v with pixel i turned) - F(v)).
    """
    energy, chosen = reader.energy, pixels.to(reader.energy.weight.device)
    labels = torch.arange(reader.classes) if label is None else torch.tensor([label])
    v = visible.to(energy.weight)
    turn = (1 - 2 * v[chosen])[:, None]  # (m, 1)
    inputs = v @ energy.weight + energy.odd_bias[labels]  # (K, H)
    turned = inputs[:, None] + turn * energy.weight[chosen]  # (K, m, H)
    linear = energy.even_bias[labels] @ v  # (K,)
    as_is = linear + functional.softplus(inputs).sum(-1)
    other = linear[:, None] + energy.even_bias[labels][:, chosen] * turn[:, 0] + functional.softplus(turned).sum(-1)
    bias = reader.class_bias[labels] if label is None else torch.zeros_like(linear)
    return functional.logsigmoid(torch.logsumexp(as_is + bias, 0) - torch.logsumexp(other + bias[:, None], 0))


RESTRICTED: Mapping[Metric, Measure] = {
    "free_energy": Measure("unnormalised", _free_energy, sign=-1),
    "log_likelihood": Measure("estimate", _log_likelihood),
    "pseudo_log_likelihood": Measure("estimate", _pseudo_log_likelihood, draws=True),
}
DEEP: Mapping[Metric, Measure] = {"elbo": Measure("lower_bound", _log_likelihood)}


def measures_of(shape: MachineConfig) -> Mapping[Metric, Measure]:
    """What a machine can say, its default first: a deep one has a bound alone."""
    return DEEP if shape.top else RESTRICTED


def known_names(measures: Mapping[Metric, Measure]) -> list[str]:
    """What scores.json holds: every metric over all classes, and given each image's own."""
    return [known_name(metric, given_class=given) for metric in measures for given in (False, True)]


def known_name(metric: Metric, *, given_class: bool) -> str:
    return f"{_OF_CLASS}{metric}" if given_class else metric


class ScorePass:
    """Implements `services.nn.one_shot.Pass`: rows of any metric and class share it."""

    def __init__(self, reader: Reader, measures: Mapping[Metric, Measure], known: Mapping[str, Known]) -> None:
        self.reader = reader
        self._measures, self._known = measures, known

    def __call__(self, rows: Sequence[ScoreParams]) -> list[Score | None]:
        reading = self.reader.read(torch.stack([row.visible for row in rows]))
        return [self._score(reading, index, row) for index, row in enumerate(rows)]

    def _score(self, reading: Reading, index: int, row: ScoreParams) -> Score | None:
        measure = self._measures[row.metric]
        value, error = measure.of(self.reader, reading, index, row)
        if not math.isfinite(value):
            return None
        known = self._known.get(known_name(row.metric, given_class=row.label is not None))
        return Score(
            index=0,
            metric=row.metric,
            kind=measure.kind,
            value=value,
            standard_error=error,
            percentile=None if known is None else known.percentile(measure.sign * value),
            seed=row.seed if measure.draws else None,
        )
