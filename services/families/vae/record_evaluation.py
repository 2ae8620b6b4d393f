"""Owns the measuring and the publishing of an autoencoder of records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from services.families.vae.record_bulk import draw_records, load_record_vae, score_records
from services.families.vae.record_model import RecordVae, bin_edges
from services.nn.percentiles import write_known
from services.nn.records import Entries
from services.nn.weights import save_model
from services.training.recipe import Evaluation, Figure
from services.training.record_data import OUTCOME, RecordSplit, read_sample, write_sample
from services.training.record_figures import anomaly_figure, record_figures, sample_record_figures
from services.training.record_sheets import correlation_sheet
from shared.config.vae import SAMPLES

_NOTE = (
    "Scores are bounds on log-probabilities of whole records as the table holds them, numbers rounded to its grid, in "
    "nats."
)


def export_record_vae(vae: RecordVae, split: RecordSplit, folder: Path) -> None:
    """config.json, model.safetensors, the held-out records, and scores.json of both parts."""
    save_model(vae, vae.config, folder)
    write_sample(split, folder)
    published = load_record_vae(folder)
    write_known(
        folder,
        {
            metric: (score_records(published, split.train, metric), score_records(published, split.held_out, metric))
            for metric in SAMPLES
        },
    )


def evaluate_record_vae(weights: Path, split: RecordSplit, outcome: str = OUTCOME) -> Evaluation:
    """Every figure and sheet of a folder of weights; a minute on a core. `outcome`: the column that is predicted."""
    vae = load_record_vae(weights)

    def draw(count: int) -> Entries:
        return draw_records(vae, count)

    figures = [
        *record_figures(draw, split, outcome),
        anomaly_figure(lambda entries: score_records(vae, entries), split),
        *_bound_figures(vae, split),
        *sample_figures(vae, read_sample(vae.config.table, weights)),
    ]
    sheet = correlation_sheet(split.table, split.train, draw_records(vae, len(split.train)))
    return Evaluation(figures, {"correlations": sheet}, [_NOTE])


def _bound_figures(vae: RecordVae, split: RecordSplit) -> Iterator[Figure]:
    elbo = float(score_records(vae, split.held_out).mean())
    yield Figure(
        "elbo",
        elbo,
        "higher",
        tolerance=0.1,
        baseline=_apart(split),
        baseline_name="columns drawn one by one",
        meaning=f"nats a held-out record, by {SAMPLES['elbo']} draws",
    )
    yield Figure(
        "elbo_of_training_records",
        float(score_records(vae, split.train).mean()),
        "higher",
        tolerance=0.1,
        meaning="the same of the records that it was trained on",
    )
    yield Figure(
        "importance_weighted_bound",
        float(score_records(vae, split.held_out, "importance_weighted_bound").mean()),
        "higher",
        tolerance=0.1,
        baseline=elbo,
        baseline_name="the ELBO",
        meaning=f"nats a held-out record, by {SAMPLES['importance_weighted_bound']} draws",
    )


def _apart(split: RecordSplit) -> float:
    """Nats a held-out record where columns have nothing to do with each other, each as in the training records.

    Numbers are by the table's own quantiles; each category counts once more than it was seen.
    """
    low, high = bin_edges(split.table, split.held_out)
    nats = (torch.special.ndtr(high) - torch.special.ndtr(low)).log().sum(1)
    for seen, asked, size in zip(
        split.train.codes.unbind(1), split.held_out.codes.unbind(1), split.table.block_sizes, strict=True
    ):
        counts = seen.bincount(minlength=size) + 1.0
        nats = nats + (counts / counts.sum()).log()[asked]
    return float(nats.mean())


def sample_figures(vae: RecordVae, sample: Entries) -> Iterator[Figure]:
    """Of the records that lie beside the weights."""
    yield from sample_record_figures(
        lambda count: draw_records(vae, count), lambda entries: score_records(vae, entries), vae.config.table, sample
    )
    yield Figure(
        "sample_elbo",
        float(score_records(vae, sample).mean()),
        "higher",
        tolerance=0.1,
        meaning=f"nats a record of that sample, by {SAMPLES['elbo']} draws",
    )
