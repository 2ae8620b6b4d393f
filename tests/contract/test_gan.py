"""The gan family passes the contract suite: images and frames of several classes and truncations in one batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from services.families.gan import model
from services.families.gan.params import ImageParams, Point
from services.families.gan.sampler import GeneratorPass
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Pixels, Writing
from services.nn.one_shot import OneShotSampler
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.gan.tiny import make_generator

# Levels of 255 by which rounding may move a pixel: a different order of summation can cross the border of one level.
TOLERANCE = {torch.float64: 0, torch.float32: 1}


def row(
    start: Point, end: Point | None = None, *, position: float = 0.0, truncation: float = 1.0, task: str = "image"
) -> ImageParams:
    drawing = Drawing(start.seed, start.label, Writing("png", 90), 1)
    return ImageParams(task, start, end or start, position, truncation, drawing)


ROWS = [
    row(Point(1, 0)),
    row(Point(-7, 1), truncation=0.5),
    row(Point(2**62, 2)),
    row(Point(1, 0), Point(5, 2), position=0.25, task="interpolation"),
    row(Point(1, 0), Point(5, 2), position=1.0, task="interpolation"),
]


class BreaksOnce(model.Generator):
    """Raises once, after the images of the batch are computed."""

    def __init__(self, inner: model.Generator) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.to(next(inner.parameters()).dtype)
        self.broken = False

    def forward(self, latent: Tensor, class_weights: Tensor) -> Tensor:
        images = super().forward(latent, class_weights)
        if not self.broken and len(latent) > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return images


@contextmanager
def broken_batch(sampler: OneShotSampler[ImageParams, ImageChunk]) -> Generator[None]:
    draw = sampler.passes["image"]
    assert isinstance(draw, GeneratorPass)
    kept, broken = draw.generator, BreaksOnce(draw.generator)
    draw.generator = broken
    yield
    assert broken.broken, "no step failed"
    draw.generator = kept


def only_image(chunks: Sequence[ImageChunk]) -> Pixels:
    (chunk,) = chunks
    assert not chunk.is_preview
    return chunk.pixels


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def case(request: pytest.FixtureRequest) -> ContractCase[Pixels]:
    dtype: torch.dtype = request.param
    generator = make_generator().to(dtype)
    tolerance = TOLERANCE[dtype]
    draw = GeneratorPass(generator)
    return ContractCase(
        name=f"gan in {dtype}",
        make_sampler=lambda: OneShotSampler({"image": draw, "interpolation": draw}, max_batch_size=8),
        params=ROWS,
        result=only_image,
        live=lambda sampler: len(sampler.rows),
        equal=lambda a, b: bool((np.abs(a.astype(int) - b.astype(int)) <= tolerance).all()),
        broken_batch=broken_batch,
        one_shot=True,
    )


class TestGan(SamplerContract):
    pass
