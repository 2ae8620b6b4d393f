"""Owns the measuring of a published flow of records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from services.families.flow.record_bulk import draw_records, load_record_flow, score_records
from services.families.flow.record_model import RecordFlow
from services.nn.records import Entries
from services.training.recipe import Evaluation, Figure
from services.training.record_data import RecordSplit, read_sample
from services.training.record_figures import anomaly_figure, record_figures, sample_record_figures
from services.training.record_sheets import correlation_sheet

_NOTES = (
    "Scores are exact log-probabilities of whole records as the table holds them, numbers rounded to its grid, in "
    "nats: the probabilities of all records that the table can hold sum to 1.",
    "Training stopped where held-out records were likeliest, so that their likelihood is told a little too well.",
)


def evaluate_record_flow(weights: Path, split: RecordSplit) -> Evaluation:
    """Every figure and sheet of a folder of weights; a minute on a core."""
    flow = load_record_flow(weights)

    def draw(count: int) -> Entries:
        return draw_records(flow, count)

    def score(entries: Entries) -> torch.Tensor:
        return score_records(flow, entries)

    sample = read_sample(flow.config.table, weights)
    figures = [
        *likelihood_figures(flow, split),
        *record_figures(draw, split),
        anomaly_figure(score, split),
        *sample_record_figures(draw, score, flow.config.table, sample),
        _sample_likelihood(flow, sample),
    ]
    sheet = correlation_sheet(split.table, split.train, draw_records(flow, len(split.train)))
    return Evaluation(figures, {"correlations": sheet}, _NOTES)


def likelihood_figures(flow: RecordFlow, split: RecordSplit) -> Iterator[Figure]:
    """What the model says of whole records, beside what columns one by one would."""
    yield Figure(
        "log_likelihood",
        score_records(flow, split.held_out).mean().item(),
        "higher",
        tolerance=0.1,
        baseline=apart(flow, split),
        baseline_name="columns drawn one by one",
        meaning="nats a held-out record, exact",
    )
    yield Figure(
        "log_likelihood_of_training_records",
        score_records(flow, split.train).mean().item(),
        "higher",
        tolerance=0.1,
        meaning="the same of the records that it was trained on",
    )


def apart(flow: RecordFlow, split: RecordSplit) -> float:
    """Nats a held-out record where columns have nothing to do with each other, each as in the training records.

    Numbers are by the table's own quantiles; each category counts once more than it was seen.
    """
    grid, count = flow.grid, len(split.table.numbers)
    low, high = grid.bounds(grid.indices(split.held_out))
    mass = torch.special.ndtr(high[:, :count].double()) - torch.special.ndtr(low[:, :count].double())
    nats = mass.log().sum(dim=1)
    for seen, asked, size in zip(
        split.train.codes.unbind(1), split.held_out.codes.unbind(1), split.table.block_sizes, strict=True
    ):
        counts = seen.bincount(minlength=size) + 1.0
        nats = nats + (counts / counts.sum()).log()[asked]
    return nats.mean().item()


def _sample_likelihood(flow: RecordFlow, sample: Entries) -> Figure:
    return Figure(
        "sample_log_likelihood",
        score_records(flow, sample).mean().item(),
        "higher",
        tolerance=0.1,
        meaning="nats a record of that sample",
    )
