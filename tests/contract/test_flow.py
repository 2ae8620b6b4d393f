"""The flow family passes the contract suite: drawings, frames between given images, scores, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.families.flow.model import ImageFlow
from services.families.flow.params import (
    DrawParams,
    EmbeddingParams,
    End,
    FlowParams,
    GivenEnd,
    ScoreParams,
    SeededEnd,
)
from services.families.flow.record_model import RecordFlow
from services.families.flow.record_sampler import DrawRecords, EmbedRecords, RecordPass, ScoreRecords
from services.families.flow.sampler import DrawPass, EmbeddingPass, ImagePass, ScorePass
from services.nn.canvas import Drawing
from services.nn.images import Writing
from services.nn.one_shot import OneShotSampler
from services.nn.record_tasks import DrawnRecord, RecordParams, ScoredRecord
from services.nn.record_values import GivenRecord
from services.nn.records import Table
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.flow.tiny import make_flow, some_images
from tests.unit.flow.tiny_records import make_record_flow, make_split

DRAWING = Drawing(0, 0, Writing("png", 90), 1)
ALL = (0, 1, 2)
A, B = some_images(2)


def draw(start: End, end: End | None = None, *, position: float = 0.0, temperature: float = 1.0) -> DrawParams:
    task = "image" if end is None else "interpolation"
    return DrawParams(task, start, end or start, position, temperature, DRAWING)


DRAWINGS = [
    draw(SeededEnd(1, 0)),
    draw(SeededEnd(-7, 1), temperature=0.5),
    draw(SeededEnd(2**62, 2)),
    draw(SeededEnd(1, 0), SeededEnd(5, 2), position=0.25),
    draw(GivenEnd(A, ALL), GivenEnd(B, (1,)), position=0.5),
    draw(SeededEnd(5, 2), GivenEnd(A, ALL), position=1.0),
]
SCORES = [ScoreParams(A, ALL), ScoreParams(B, ALL), ScoreParams(A, (2,)), ScoreParams(B, (0,))]
EMBEDDINGS = [
    EmbeddingParams(GivenEnd(A, ALL), 64, "float"),
    EmbeddingParams(GivenEnd(B, ALL), 4, "float"),
    EmbeddingParams(GivenEnd(B, ALL), 9, "base64"),
]


def pixels(chunks: Sequence[Any]) -> list[float]:
    (chunk,) = chunks
    return chunk.pixels.astype(float).flatten().tolist()


def nats(chunks: Sequence[Any]) -> list[float]:
    (chunk,) = chunks
    return [chunk.nats]


def vector(chunks: Sequence[Any]) -> list[float]:
    (chunk,) = chunks
    return list(chunk.vector)


@dataclass(frozen=True)
class Work:
    """A kind of work, and by how much results may differ when rows are computed together, by dtype.

    Rounding may move a pixel by one of 255 levels; a random net amplifies that of float32 in nats and latents.
    """

    params: Sequence[FlowParams]
    result: Callable[[Sequence[Any]], list[float]]
    float64: float
    float32: float


WORK = {
    "draw": Work(DRAWINGS, pixels, 0, 1),
    "score": Work(SCORES, nats, 1e-9, 0.01),
    "embed": Work(EMBEDDINGS, vector, 1e-9, 1e-3),
}


class BreaksOnce(ImageFlow):
    """Raises once, after what was asked of several rows is computed."""

    def __init__(self, inner: ImageFlow) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.to(next(inner.parameters()).dtype)
        self.broken = False

    def forward(self, values: Tensor, class_weights: Tensor) -> tuple[Tensor, Tensor]:
        return self._or_break(super().forward(values, class_weights), len(values))

    def inverse(self, z: Tensor, class_weights: Tensor) -> Tensor:
        return self._or_break(super().inverse(z, class_weights), len(z))

    def _or_break(self, computed: Any, rows: int) -> Any:
        if not self.broken and rows > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return computed


@contextmanager
def broken_batch(sampler: OneShotSampler[Any, Any]) -> Generator[None]:
    """Of either kind of flow: all passes share one."""
    runs = [run for run in sampler.passes.values() if isinstance(run, ImagePass | RecordPass)]
    kept = runs[0].flow
    broken = BreaksOnce(kept) if isinstance(kept, ImageFlow) else BreaksRecordsOnce(kept)
    for run in runs:
        run.flow = broken
    yield
    assert broken.broken, "no step failed"
    for run in runs:
        run.flow = kept


def make_sampler(dtype: torch.dtype) -> OneShotSampler[Any, Any]:
    flow = make_flow().to(dtype)
    drawing = DrawPass(flow)
    passes = {
        "image": drawing,
        "interpolation": drawing,
        "score": ScorePass(flow),
        "embedding": EmbeddingPass(flow),
    }
    return OneShotSampler[Any, Any](passes, max_batch_size=8)


@pytest.fixture(scope="module", params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=list(WORK))
def case(request: pytest.FixtureRequest, dtype: str) -> ContractCase[list[float]]:
    work = WORK[request.param]
    tolerance = getattr(work, dtype)
    return ContractCase(
        name=f"flow: {request.param} in {dtype}",
        make_sampler=lambda: make_sampler(getattr(torch, dtype)),
        params=work.params,
        result=work.result,
        live=lambda sampler: len(sampler.rows),
        equal=lambda a, b: len(a) == len(b) and np.abs(np.subtract(a, b)).max() <= tolerance,
        broken_batch=broken_batch,
        one_shot=True,
    )


class TestFlow(SamplerContract):
    pass


RECORD, ANOTHER = GivenRecord((30.0, 55.5), (1, 0)), GivenRecord((50.0, 65.0), (0, 1))
RECORD_WORK: dict[str, Sequence[RecordParams]] = {
    "record": [
        RecordParams("record", 4.0, seed, is_first=False, temperature=temperature)
        for seed, temperature in ((1, 1.0), (-7, 0.5), (2**62, 1.5), (5, 1.0))
    ],
    "score": [
        RecordParams("score", 1.0, 0, is_first=False, given=given) for given in (RECORD, ANOTHER, RECORD, ANOTHER)
    ],
    "embedding": [
        RecordParams("embedding", 1.0, 0, is_first=False, given=given, dimensions=size)
        for given, size in ((RECORD, 4), (ANOTHER, 2), (ANOTHER, 4))
    ],
}


def record_numbers(chunks: Sequence[Any]) -> list[float]:
    """Of any of the three kinds of work."""
    (chunk,) = chunks
    match chunk:
        case DrawnRecord():
            return [float(hash(value)) for value in chunk.record.values()]
        case ScoredRecord():
            return [chunk.value]
        case _:
            return list(chunk.values)


class BreaksRecordsOnce(RecordFlow):
    """Raises once, after what was asked of several rows is computed."""

    def __init__(self, inner: RecordFlow) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.to(next(inner.parameters()).dtype)
        self.broken = False

    def _splines(self, middles: Tensor) -> Any:
        splines = super()._splines(middles)
        if not self.broken and len(middles) > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return splines


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return make_split(tmp_path_factory.mktemp("records")).table


@pytest.fixture(scope="module", params=list(RECORD_WORK))
def record_case(request: pytest.FixtureRequest, dtype: str, table: Table) -> ContractCase[list[float]]:
    tolerance = 1e-9 if dtype == "float64" else 1e-4
    flow = make_record_flow(table).to(getattr(torch, dtype))
    return ContractCase(
        name=f"flow of records: {request.param} in {dtype}",
        make_sampler=lambda: OneShotSampler[Any, Any](
            {"record": DrawRecords(flow), "score": ScoreRecords(flow), "embedding": EmbedRecords(flow)},
            max_batch_size=8,
        ),
        params=RECORD_WORK[request.param],
        result=record_numbers,
        live=lambda sampler: len(sampler.rows),
        equal=lambda a, b: len(a) == len(b) and np.abs(np.subtract(a, b)).max() <= tolerance,
        broken_batch=broken_batch,
        one_shot=True,
    )


class TestRecordFlow(SamplerContract):
    @pytest.fixture(scope="module")
    @classmethod
    def case(cls, record_case: ContractCase[list[float]]) -> ContractCase[list[float]]:
        return record_case
