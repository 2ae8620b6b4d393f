"""The pixelcnn family passes the contract suite: images and edits, levels with their attempts, and scores."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.families.pixelcnn.level_tasks import LevelChunk, LevelFinish
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.params import FREE, Given, ImageParams, LevelParams, ScoreParams
from services.families.pixelcnn.pictures import ImageFinish, to_values
from services.families.pixelcnn.sampler import RowSampler
from services.families.pixelcnn.scores import ScoreChunk, ScorePass
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Writing
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.pixelcnn.tiny import IMAGES, LEVELS, SIDE, make_model, some_pixels

# Values are drawn by comparing with a probability, so rounding changes one only where the two are next to each other:
# none of these rows has such a place, in either precision. Scores move by rounding itself.
SCORE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
DTYPES = [torch.float64, torch.float32]
NAMES = ["float64", "float32"]


def image(seed: int, label: int, temperature: float = 1.0, *, previews: tuple[int, ...] = ()) -> ImageParams:
    drawing = Drawing(seed, label, Writing("png", 90), 1, SIDE, frozenset(previews))
    return ImageParams("image", drawing, temperature)


def edit(seed: int, label: int) -> ImageParams:
    pixels = some_pixels(seed)
    values = to_values(torch.from_numpy(pixels), IMAGES.values).numpy()
    values[2:, 1:4] = FREE
    return ImageParams("edit", image(seed, label).drawing, 1.3, Given(values, pixels[..., None]))


IMAGE_ROWS = [image(1, 0), image(-7, 1, 0.5, previews=(1, 3)), edit(3, 2), image(2**62, 2, 2.0)]
LEVEL_ROWS = [LevelParams(seed, 1.0, attempts, LEVELS.height) for seed, attempts in ((1, 1), (2, 3), (-3, 2))]
SCORE_ROWS = [
    ScoreParams(to_values(torch.from_numpy(some_pixels(seed)), IMAGES.values), label, 3)
    for seed, label in ((1, None), (2, 0), (3, 2), (4, None))
]


class BreaksOnce(GatedPixelCnn):
    """Raises once, after a whole batch of rows is computed: `one_hot` is what a step of rows ends with."""

    def __init__(self, inner: GatedPixelCnn) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.to(inner.to_logits.weight.dtype).eval()
        self.broken = False

    def one_hot(self, values: Tensor) -> Tensor:
        hot = super().one_hot(values)
        if not self.broken and len(values) > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return hot


@contextmanager
def broken_batch(sampler: RowSampler[Any, Any]) -> Generator[None]:
    kept, broken = sampler.model, BreaksOnce(sampler.model)
    sampler.model = broken
    yield
    assert broken.broken, "no step failed"
    sampler.model = kept


def only(chunks: Sequence[Any]) -> Any:
    (chunk,) = chunks
    return chunk


def same_picture(a: ImageChunk, b: ImageChunk) -> bool:
    return (a.pixels == b.pixels).all() and (a.seed, a.step) == (b.seed, b.step)


def same_level(a: LevelChunk, b: LevelChunk) -> bool:
    return np.array_equal(a.level, b.level) and (a.attempts, a.well_formed) == (b.attempts, b.well_formed)


class TestImages(SamplerContract):
    @pytest.fixture(scope="class", params=DTYPES, ids=NAMES)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ContractCase[ImageChunk]:
        model = make_model().to(request.param)
        return ContractCase(
            name=f"images in {request.param}",
            make_sampler=lambda: RowSampler(model, ImageFinish(IMAGES.values), 8, {"score": ScorePass(model)}),
            params=IMAGE_ROWS,
            result=only,
            live=lambda sampler: len(sampler.running),
            equal=same_picture,
            broken_batch=broken_batch,
        )


class TestLevels(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> ContractCase[LevelChunk]:
        model = make_model(LEVELS).double()
        return ContractCase(
            name="levels",
            make_sampler=lambda: RowSampler(model, LevelFinish(), 8),
            params=LEVEL_ROWS,
            result=only,
            live=lambda sampler: len(sampler.running),
            equal=same_level,
            broken_batch=broken_batch,
        )


class TestScores(SamplerContract):
    @pytest.fixture(scope="class", params=DTYPES, ids=NAMES)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ContractCase[ScoreChunk]:
        model = make_model().to(request.param)
        tolerance = SCORE_TOLERANCE[request.param]
        return ContractCase(
            name=f"scores in {request.param}",
            make_sampler=lambda: RowSampler(model, ImageFinish(IMAGES.values), 8, {"score": ScorePass(model)}),
            params=SCORE_ROWS,
            result=only,
            live=lambda sampler: len(sampler.running),
            equal=lambda a, b: abs(a.nats - b.nats) <= tolerance and a.given_class == b.given_class,
            one_shot=True,
        )
