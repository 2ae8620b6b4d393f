"""The vae family passes the contract suite: drawn images, scores, and drawn records, each in batches of their own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from services.families.vae.image_params import DrawParams, Given, Near, Point, ScoreParams, Seeded
from services.families.vae.image_passes import DrawPass, ScorePass
from services.families.vae.record_passes import RecordDrawPass
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Pixels, Writing
from services.nn.one_shot import OneShotSampler
from services.nn.record_tasks import DrawnRecord, RecordParams
from shared.schemas.items import Value
from shared.schemas.scores import Metric, Score
from tests.contract.suite import ContractCase, SamplerContract
from tests.record_tables import make_split
from tests.unit.vae.tiny import make_picture, make_record_vae, make_vae

# Levels of 255 by which rounding may move a pixel, and by what share it may move a sum of a thousand logarithms: a
# different order of summation can cross the border of one level.
LEVELS = {torch.float64: 0, torch.float32: 1}
SHARE = {torch.float64: 1e-12, torch.float32: 1e-5}


def drawing(*points: Point, position: float = 0.0, truncation: float = 1.0, task: str = "image") -> DrawParams:
    ends = (points[0],) if len(points) == 1 else (points[0], points[1])
    return DrawParams(task, ends, position, truncation, Drawing(1, 0, Writing("png", 90), 1))


def score(seed: int, metric: Metric, samples: int, label: int | None = None) -> ScoreParams:
    return ScoreParams("score", make_picture(seed), metric, label, samples, seed, compares=False)


PICTURE = make_picture()
DRAWINGS = [
    drawing(Seeded(1, 0)),
    drawing(Seeded(-7, 1), truncation=0.5),
    drawing(Near(PICTURE, 0.3, 5, None), task="variation"),
    drawing(Near(PICTURE, 1.0, 6, 2), task="variation"),
    drawing(Seeded(1, 0), Given(PICTURE), position=0.25, task="interpolation"),
    drawing(Given(PICTURE), Given(make_picture(1)), position=1.0, task="interpolation"),
]
SCORES = [
    score(1, "elbo", 3),
    score(2, "elbo", 70, label=1),
    score(3, "importance_weighted_bound", 64),
    score(4, "importance_weighted_bound", 1, label=0),
]
RECORDS = [
    RecordParams("record", 1.0, seed, is_first=seed == 1, temperature=temperature)
    for seed, temperature in ((1, 1.0), (-5, 0.5), (2**62, 2.0), (7, 1.0))
]


def breaking(model: nn.Module) -> Callable[[Any], AbstractContextManager[None]]:
    """Makes the model's next decoding of two or more rows raise, after it is computed."""

    @contextmanager
    def broken_batch(sampler: Any) -> Generator[None]:
        broken: list[bool] = []

        def fail(module: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor) -> None:
            if not broken and len(out) > 1:
                broken.append(True)
                raise RuntimeError("injected fault")

        decoder = model.get_submodule("decoder")
        handle = decoder.register_forward_hook(fail)
        yield
        handle.remove()
        assert broken, "no step failed"

    return broken_batch


def only(chunks: Sequence[Any]) -> Any:
    (chunk,) = chunks
    return chunk


def pixels(chunks: Sequence[ImageChunk]) -> Pixels:
    assert not only(chunks).is_preview
    return only(chunks).pixels


def record(chunks: Sequence[DrawnRecord]) -> dict[str, Value]:
    return only(chunks).record


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class TestDrawnImages(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[Pixels]:
        draw = DrawPass(make_vae().to(dtype))
        return ContractCase(
            name=f"images of vae in {dtype}",
            make_sampler=lambda: OneShotSampler(dict.fromkeys(("image", "variation", "interpolation"), draw), 8),
            params=DRAWINGS,
            result=pixels,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: bool((np.abs(a.astype(int) - b.astype(int)) <= LEVELS[dtype]).all()),
            broken_batch=breaking(draw.model),
            one_shot=True,
        )


class TestScoredImages(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[Score]:
        reading = ScorePass(make_vae().to(dtype), {})
        return ContractCase(
            name=f"scores of vae in {dtype}",
            make_sampler=lambda: OneShotSampler({"score": reading}, 8),
            params=SCORES,
            result=only,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: a.seed == b.seed and a.value == pytest.approx(b.value, rel=SHARE[dtype]),
            broken_batch=breaking(reading.model),
            one_shot=True,
        )


class TestDrawnRecords(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory) -> ContractCase[dict[str, Value]]:
        table = make_split(tmp_path_factory.mktemp("records")).table
        draw = RecordDrawPass(make_record_vae(table).to(dtype))
        return ContractCase(
            name=f"records of vae in {dtype}",
            make_sampler=lambda: OneShotSampler({"record": draw}, 8),
            params=RECORDS,
            result=record,
            live=lambda sampler: len(sampler.rows),
            broken_batch=breaking(draw.model),
            one_shot=True,
        )
