"""The one step: failures of single rows, ends that frames share, and parts of large batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.engine.contract import FinishReason
from services.families.flow.model import ImageFlow
from services.families.flow.params import DrawParams, EmbeddingParams, GivenEnd, ScoreParams, SeededEnd
from services.families.flow.sampler import DrawPass, EmbeddingPass, ScorePass
from services.nn.canvas import Drawing
from services.nn.images import Writing
from services.nn.one_shot import OneShotSampler
from tests.unit.flow.tiny import make_flow, some_images

DRAWING = Drawing(0, 0, Writing("png", 90), 1)
ALL = (0, 1, 2)


def seeded(seed: int) -> DrawParams:
    end = SeededEnd(seed, 0)
    return DrawParams("image", end, end, 0.0, 1.0, DRAWING)


def test_a_drawing_that_is_not_finite_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = make_flow()
    sampler = OneShotSampler({"image": DrawPass(flow)}, 4)
    original = flow.inverse

    def spoilt(z: Tensor, class_weights: Tensor) -> Tensor:
        values = original(z, class_weights).clone()
        values[1, 0, 3, 3] = torch.nan
        return values

    monkeypatch.setattr(flow, "inverse", spoilt)
    outputs = sampler.step([sampler.start(seeded(seed)) for seed in range(3)])
    assert [output.finish_reason for output in outputs] == [FinishReason.STOP, FinishReason.ERROR, FinishReason.STOP]


class Spoilt(ImageFlow):
    """Gives no number for the second image of a call."""

    def forward(self, values: Tensor, class_weights: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(values, class_weights)
        z[3:6] = torch.nan  # three classes each
        return z, log_det


def test_a_measure_that_is_not_finite_fails_alone() -> None:
    flow = make_flow()
    spoilt = Spoilt(flow.config).eval()
    spoilt.load_state_dict(flow.state_dict())
    images = some_images(3)
    with torch.inference_mode():
        scores = ScorePass(spoilt)([ScoreParams(image, ALL) for image in images])
        rows = [EmbeddingParams(GivenEnd(image, ALL), 4, "float") for image in images]
        vectors = EmbeddingPass(spoilt)(rows)
    for chunks in (scores, vectors):
        assert [chunk is None for chunk in chunks] == [False, True, False]


def test_frames_that_share_their_ends_measure_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = DrawPass(make_flow())
    measured: list[int] = []
    original = draw.places

    def counted(ends: list[GivenEnd]) -> list[tuple[Tensor, int]]:
        measured.append(len(ends))
        return original(ends)

    monkeypatch.setattr(draw, "places", counted)
    start, end = (GivenEnd(image, ALL) for image in some_images(2))
    with torch.inference_mode():
        frames = draw([DrawParams("interpolation", start, end, i / 4, 1.0, DRAWING) for i in range(5)])
    assert measured == [2]
    assert len({frame.pixels.tobytes() for frame in frames if frame is not None}) == 5


def test_more_entries_than_a_part_holds_are_measured_all(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ScorePass(make_flow())
    rows = [ScoreParams(image, ALL) for image in some_images(5)]
    with torch.inference_mode():
        whole = run(rows)
        monkeypatch.setattr("services.families.flow.sampler.ENTRIES", 4)
        parts = run(rows)
    for a, b in zip(whole, parts, strict=True):
        assert a is not None
        assert b is not None
        assert a.nats == pytest.approx(b.nats, rel=1e-5)


def test_rows_of_one_step_are_bounded_by_their_passes() -> None:
    run = ScorePass(make_flow())
    sampler = OneShotSampler({"score": run}, 64, max_cost=7.0)
    row = ScoreParams(some_images(1)[0], ALL)
    states = [sampler.start(row) for _ in range(2)]
    assert sampler.fits(row, states[:1])
    assert not sampler.fits(row, states), "nine passes are more than seven"
