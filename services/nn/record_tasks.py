"""Owns what a model of records may be asked: synthetic records, scores, reconstructions, embeddings. Never sees HTTP.

A family gives the passes: from rows (`RecordParams`) to chunks (`DrawnRecord`, `ScoredRecord`, `SeenRecord`,
`RecordVector`), each of its row alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel

from services.nn.items import cut_dimensions, embedding_event, given_param, item_event
from services.nn.percentiles import Known
from services.nn.record_values import GivenRecord, shown
from services.nn.records import Entries, Table
from services.nn.rng import image_seed
from services.nn.scoring import chosen_metric, refuse_samples
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.items import GivenItems, Value
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest
from shared.schemas.records import RecordGenerationRequest, RecordRow, TableColumn
from shared.schemas.scores import MAX_SAMPLES, Metric, Score, ScoreRequest


@dataclass(frozen=True, slots=True)
class RecordParams:
    """One row. `given` is None of a record that is to be drawn; `seed` is of all that the row draws.

    `temperature` is of drawn records; `metric` and `samples` (draws of an estimate; 0 of none) of scores;
    `dimensions` (how many numbers are given) and `encoding` of embeddings. `is_first`: the answer's row 0.
    """

    task: str
    cost: float
    seed: int
    is_first: bool
    given: GivenRecord | None = None
    temperature: float = 1.0
    metric: Metric = "log_likelihood"
    samples: int = 0
    dimensions: int = 0
    encoding: Literal["float", "base64"] = "float"


@dataclass(frozen=True, slots=True)
class DrawnRecord:
    record: dict[str, Value]
    seed: int
    is_first: bool


@dataclass(frozen=True, slots=True)
class ScoredRecord:
    """`value` in nats. `seed` is None of a score that draws nothing; `standard_error` is of an estimate."""

    metric: Metric
    value: float
    standard_error: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class SeenRecord:
    """A record as the model sees it; `error` as `Table.error` has it, `seed` None of one that draws nothing."""

    record: dict[str, Value]
    error: float
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class RecordVector:
    values: tuple[float, ...]
    encoding: Literal["float", "base64"]


def entries_of(rows: Sequence[RecordParams]) -> Entries:
    """The given records of rows that have one."""
    return Entries.of([row.given for row in rows if row.given is not None])


def drawn(
    table: Table, rows: Sequence[RecordParams], entries: Entries, is_finite: Sequence[bool]
) -> list[DrawnRecord | None]:
    """Chunks of drawn records, one a row; None where the network's values were not finite."""
    return [
        DrawnRecord(record, row.seed, row.is_first) if finite else None
        for row, record, finite in zip(rows, table.records(entries), is_finite, strict=True)
    ]


def seen(
    table: Table, given: Entries, entries: Entries, seeds: Sequence[int | None], is_finite: Sequence[bool]
) -> list[SeenRecord | None]:
    """Chunks of reconstructions; None where the network's values were not finite."""
    errors = table.error(given, entries).tolist()
    return [
        SeenRecord(record, error, seed) if finite else None
        for record, error, seed, finite in zip(table.records(entries), errors, seeds, is_finite, strict=True)
    ]


def read_records(request: GivenItems, table: Table) -> list[GivenRecord]:
    """Raises InvalidRequest: an item that is no record, or not one of this table."""
    records: list[GivenRecord] = []
    for index, item in enumerate(request.items):
        param = given_param(request, index)
        if not isinstance(item, dict):
            raise InvalidRequest(
                f"'{param}' must be a record: an object with a value for each column; got {_got(item)}.",
                param=param,
                code="invalid_type",
            )
        records.append(table.given(item, param))
    return records


def _got(item: str | list[int]) -> str:
    return shown(item) if isinstance(item, str) else "a list"


class _Columns(BaseModel):
    """What an answer of drawn records says beside its list."""

    columns: list[TableColumn]


@dataclass(frozen=True, slots=True)
class RecordTask:
    """`n` synthetic records. `has_temperature`: whether the model's draws can be narrowed or widened."""

    encodes_slowly: ClassVar[bool] = False

    model: str
    table: Table
    has_temperature: bool = True
    cost: float = 1.0

    def prepare(self, request: RecordGenerationRequest, salt: str = "") -> list[RecordParams]:
        if not self.has_temperature:
            _refuse_option(self.model, "temperature", request.temperature)
        temperature = 1.0 if request.temperature is None else request.temperature
        return [
            RecordParams("record", self.cost, image_seed(request.seed, i), is_first=i == 0, temperature=temperature)
            for i in range(request.n)
        ]

    def encode(self, chunk: DrawnRecord) -> Item:
        """Nothing was read. The columns come with row 0 alone: ten thousand copies of them would be megabytes."""
        row = RecordRow(index=0, record=chunk.record, seed=chunk.seed)
        return item_event(row, tokens=0, head=_Columns(columns=self.table.listing()) if chunk.is_first else None)


@dataclass(frozen=True, slots=True)
class Measure:
    """How a model computes a metric. `samples`: draws of an estimate, for each item, if not asked otherwise.

    `pass_cost` is of each draw, or of the whole score where there are none (`samples` 0).
    """

    kind: Literal["exact", "lower_bound", "estimate", "unnormalised"]
    samples: int = 0
    most_samples: int = MAX_SAMPLES
    pass_cost: float = 1.0


@dataclass(frozen=True, slots=True)
class RecordScoreTask:
    """How likely given records are, by a metric of `measures`; the first is meant if none is named.

    `known`: where scores of the data stand, by metric.
    """

    encodes_slowly: ClassVar[bool] = False

    model: str
    table: Table
    measures: Mapping[Metric, Measure]
    known: Mapping[str, Known]

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[RecordParams]:
        metric = chosen_metric(request, self.measures, self.model)
        measure = self.measures[metric]
        if measure.samples == 0:
            refuse_samples(request, metric, self.model)
        if request.prompt:
            _refuse_option(self.model, "prompt", request.prompt)
        samples = self._samples(request.samples, metric)
        cost = measure.pass_cost * max(1, samples)
        return [
            RecordParams(
                "score",
                cost,
                image_seed(request.seed, i),
                is_first=i == 0,
                given=given,
                metric=metric,
                samples=samples,
            )
            for i, given in enumerate(read_records(request, self.table))
        ]

    def encode(self, chunk: ScoredRecord) -> Item:
        known = self.known.get(chunk.metric)
        return item_event(
            Score(
                index=0,
                metric=chunk.metric,
                kind=self.measures[chunk.metric].kind,
                value=chunk.value,
                standard_error=chunk.standard_error,
                percentile=known.percentile(chunk.value) if known else None,
                seed=chunk.seed,
            )
        )

    def _samples(self, wanted: int | None, metric: Metric) -> int:
        measure = self.measures[metric]
        if wanted is None:
            return measure.samples
        if wanted > measure.most_samples:
            raise InvalidRequest(f"samples may be at most {measure.most_samples}; got {wanted}.", param="samples")
        return wanted


@dataclass(frozen=True, slots=True)
class RecordReconstructionTask:
    """Given records as the model sees them."""

    encodes_slowly: ClassVar[bool] = False

    model: str
    table: Table
    cost: float = 1.0

    def prepare(self, request: ReconstructionRequest, salt: str = "") -> list[RecordParams]:
        _refuse_option(self.model, "steps", request.steps)
        _refuse_option(self.model, "output_compression", request.output_compression)
        return [
            RecordParams("reconstruction", self.cost, image_seed(request.seed, i), is_first=i == 0, given=given)
            for i, given in enumerate(read_records(request, self.table))
        ]

    def encode(self, chunk: SeenRecord) -> Item:
        return item_event(Reconstruction(index=0, error=chunk.error, record=chunk.record, seed=chunk.seed))


@dataclass(frozen=True, slots=True)
class RecordEmbeddingTask:
    """The latent vectors of given records, of `size` numbers."""

    encodes_slowly: ClassVar[bool] = False

    model: str
    table: Table
    size: int
    cost: float = 1.0

    def prepare(self, request: EmbeddingRequest, salt: str = "") -> list[RecordParams]:
        """An embedding draws nothing: its seed is of no use."""
        dimensions = cut_dimensions(request.dimensions, self.size)
        return [
            RecordParams(
                "embedding",
                self.cost,
                seed=0,
                is_first=i == 0,
                given=given,
                dimensions=dimensions,
                encoding=request.encoding_format,
            )
            for i, given in enumerate(read_records(request, self.table))
        ]

    def encode(self, chunk: RecordVector) -> Item:
        return embedding_event(chunk.values, chunk.encoding)


def _refuse_option(model: str, name: str, value: object) -> None:
    if value is not None:
        raise InvalidRequest(f"Model '{model}' has no option '{name}'.", param=name, code="unsupported_parameter")
