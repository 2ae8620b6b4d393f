"""Owns the passes of an autoencoder of records, each over all its rows at once: drawing and reading records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.vae.bounds import BOUNDS, log_classes, log_weights
from services.families.vae.logistic import logistic_draw
from services.families.vae.record_model import RecordVae
from services.nn.record_tasks import (
    DrawnRecord,
    RecordParams,
    RecordVector,
    ScoredRecord,
    SeenRecord,
    drawn,
    entries_of,
    seen,
)
from services.nn.records import Entries
from services.nn.rng import row_generator


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """All that records draw at random: `components` int64 (B,), `noise` (B, Z) and `uniforms` float64 (B, D + C)."""

    components: Tensor
    noise: Tensor
    uniforms: Tensor

    @classmethod
    def of(cls, model: RecordVae, generators: Sequence[torch.Generator]) -> Draws:
        """One record from each generator."""
        config = model.config
        columns = len(config.table.columns)
        rows = [
            (
                torch.randint(config.components, (), generator=each),
                torch.randn(config.latent_size, generator=each),
                torch.rand(columns, generator=each, dtype=torch.float64),
            )
            for each in generators
        ]
        components, noise, uniforms = zip(*rows, strict=True)
        return cls(torch.stack(components), torch.stack(noise), torch.stack(uniforms))


class RecordDrawPass:
    """Implements `services.nn.one_shot.Pass`: the latent is from the prior, every column from what it decodes to."""

    def __init__(self, model: RecordVae) -> None:
        self.model = model

    def __call__(self, rows: Sequence[RecordParams]) -> list[DrawnRecord | None]:
        draws = Draws.of(self.model, [row_generator(row.seed) for row in rows])
        temperatures = torch.tensor([row.temperature for row in rows])
        entries, finite = draw_entries(self.model, draws, temperatures)
        return drawn(self.model.config.table, rows, entries, finite)


def draw_entries(model: RecordVae, draws: Draws, temperatures: Tensor) -> tuple[Entries, list[bool]]:
    """A record for each draw, temperatures (B,) scaling the latent about its Gaussian's mean; whether it is finite."""
    prior, table = model.prior, model.config.table
    mean, std = prior.mean.cpu()[draws.components], prior.log_std.cpu()[draws.components].exp()
    decoded, finite = _decoded(model, mean + temperatures[:, None] * std * draws.noise)
    for_numbers, for_codes = draws.uniforms.split([len(table.numbers), len(table.categories)], dim=1)
    numbers = table.from_normal(logistic_draw(for_numbers, decoded.place, decoded.log_scale))
    chances = [block.softmax(dim=1).cumsum(dim=1) for block in table.blocks(decoded.logits)]
    codes = [
        (share < at[:, None]).sum(dim=1).clamp(max=share.shape[1] - 1)
        for share, at in zip(chances, for_codes.unbind(1), strict=True)
    ]
    return Entries(numbers, _stacked(codes, numbers)), finite


class RecordReconstructPass:
    """The likeliest record at the mean of a record's posterior: nothing is drawn at random."""

    def __init__(self, model: RecordVae) -> None:
        self.model = model

    def __call__(self, rows: Sequence[RecordParams]) -> list[SeenRecord | None]:
        model, table, given = self.model, self.model.config.table, entries_of(rows)
        decoded, finite = _decoded(model, model.encode(model.packed(given).to(_device(model))).mean)
        numbers = table.from_normal(decoded.place)
        codes = _stacked([block.argmax(dim=1) for block in table.blocks(decoded.logits)], numbers)
        return seen(table, given, Entries(numbers, codes), [None] * len(rows), finite)


class RecordEmbedPass:
    """A record's embedding is the mean of its posterior."""

    def __init__(self, model: RecordVae) -> None:
        self.model = model

    def __call__(self, rows: Sequence[RecordParams]) -> list[RecordVector | None]:
        means = self.model.encode(self.model.packed(entries_of(rows)).to(_device(self.model))).mean.cpu()
        return [
            RecordVector(tuple(mean[: row.dimensions].tolist()), row.encoding) if mean.isfinite().all() else None
            for row, mean in zip(rows, means, strict=True)
        ]


class RecordScorePass:
    """Bounds on a record's log-probability from draws of its own."""

    def __init__(self, model: RecordVae) -> None:
        self.model = model

    def __call__(self, rows: Sequence[RecordParams]) -> list[ScoredRecord | None]:
        model, device = self.model, _device(self.model)
        data = model.packed(entries_of(rows)).to(device)
        classes = log_classes([None] * len(rows), 1).to(device)
        draws = [
            torch.randn(row.samples, model.config.latent_size, generator=row_generator(row.seed)).to(device)
            for row in rows
        ]
        return [
            _scored(row, each.cpu()) if each.isfinite().all() else None
            for row, each in zip(rows, log_weights(model, data, classes, draws), strict=True)
        ]


def _scored(row: RecordParams, weights: Tensor) -> ScoredRecord:
    bound = BOUNDS[row.metric](weights)
    return ScoredRecord(row.metric, bound.value, bound.standard_error, row.seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """float64 on the CPU: places and logarithms of scales (B, D), logits (B, K)."""

    place: Tensor
    log_scale: Tensor
    logits: Tensor


def _decoded(model: RecordVae, latent: Tensor) -> tuple[_Decoded, list[bool]]:
    """And whether each row is finite; one that is not is zero."""
    parts = [each.cpu().double() for each in model.decode(latent.to(_device(model)))]
    finite = torch.cat(parts, dim=1).isfinite().all(dim=1)
    return _Decoded(*(torch.where(finite[:, None], each, 0.0) for each in parts)), finite.tolist()


def _stacked(codes: Sequence[Tensor], like: Tensor) -> Tensor:
    """int64 (B, C), also where C is 0."""
    return torch.stack(list(codes), dim=1) if codes else like.new_empty(len(like), 0, dtype=torch.int64)


def _device(model: RecordVae) -> torch.device:
    return next(model.parameters()).device
