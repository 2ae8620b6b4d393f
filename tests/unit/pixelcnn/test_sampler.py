"""The steps: who shares one, what is drawn anew, failures of single rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from services.engine.contract import FinishReason, Preview
from services.engine.errors import DeviceFailure
from services.families.pixelcnn.level_tasks import LevelChunk, LevelFinish
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.params import ImageParams, LevelParams, ScoreParams, Values
from services.families.pixelcnn.pictures import ImageFinish, to_greys
from services.families.pixelcnn.sampler import RowSampler
from services.families.pixelcnn.scores import ScorePass
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Writing
from tests.contract.driver import bare_loop, run_rows
from tests.unit.pixelcnn.tiny import IMAGES, LEVELS, SIDE, make_model


def image(seed: int, label: int = 0, *, previews: tuple[int, ...] = (), temperature: float = 1.0) -> ImageParams:
    drawing = Drawing(seed, label, Writing("png", 90), 1, SIDE, frozenset(previews))
    return ImageParams("image", drawing, temperature)


def sampler_of(model: GatedPixelCnn, rows: int = 8) -> RowSampler[ImageParams, ImageChunk]:
    return RowSampler(model, ImageFinish(IMAGES.values), rows, {"score": ScorePass(model)})


def test_a_step_is_a_row_of_every_image_wherever_it_is() -> None:
    sampler = sampler_of(make_model())
    early = sampler.start(image(1))
    for _ in range(2):
        sampler.step([early])
    late = sampler.start(image(2))
    for _ in range(SIDE - 2):
        outputs = sampler.step([early, late])
        assert [output.units for output in outputs] == [1.0, 1.0]
    assert [output.finish_reason for output in outputs] == [FinishReason.STOP, None]
    assert early.progress is not None
    assert late.progress is not None
    assert (early.progress.row, late.progress.row) == (SIDE, SIDE - 2)


def test_images_and_edits_share_steps_and_scores_have_their_own() -> None:
    sampler = sampler_of(make_model())
    edit = ImageParams("edit", image(1).drawing, 0.5)
    score = ScoreParams(torch.zeros(SIDE, SIDE, dtype=torch.int64), None, 3)
    keys = [sampler.batch_key(params) for params in (image(1), edit, score)]
    assert keys[0] == keys[1] != keys[2]


def test_a_seed_s_image_is_another_than_the_next_one_s() -> None:
    run = run_rows(sampler_of(make_model()), [image(seed) for seed in range(4)])
    pictures = [run.chunks(i)[0].pixels.tobytes() for i in range(1, 5)]
    assert len(set(pictures)) == 4


def test_rows_of_one_image_draw_from_draws_of_their_own() -> None:
    """A model that sees nothing would repeat one row otherwise."""
    model = make_model()
    for parameter in model.parameters():
        parameter.zero_()
    chunk = run_rows(sampler_of(model), [image(3)]).chunks(1)[0]
    assert len({row.tobytes() for row in chunk.pixels}) == SIDE


def test_previews_show_the_rows_so_far_and_grey_below() -> None:
    sampler = sampler_of(make_model())
    state = sampler.start(image(5, previews=(2, 4)))
    outputs = [sampler.step([state])[0] for _ in range(SIDE)]
    given = [output.chunk for output in outputs]
    assert [type(chunk) for chunk in given] == [type(None), Preview, type(None), Preview, type(None), ImageChunk]
    final = given[-1]
    assert isinstance(final, ImageChunk)
    for rows, chunk in ((2, given[1]), (4, given[3])):
        assert isinstance(chunk, Preview)
        assert (chunk.chunk.step, chunk.chunk.steps, chunk.chunk.is_preview) == (rows, SIDE, True)
        assert (chunk.chunk.pixels[:rows] == final.pixels[:rows]).all()
        assert (chunk.chunk.pixels[rows:] == 127).all()


def test_pixels_are_of_the_model_s_grey_levels() -> None:
    run = run_rows(sampler_of(make_model()), [image(seed) for seed in range(4)])
    seen = {int(value) for i in range(1, 5) for value in np.unique(run.chunks(i)[0].pixels)}
    assert seen == set(to_greys(np.arange(IMAGES.values), IMAGES.values).tolist()) == {0, 85, 170, 255}


def test_a_row_that_is_not_finite_fails_alone() -> None:
    model = make_model()
    model.gated[1].class_terms.weight[2] = torch.nan
    run = run_rows(sampler_of(model), [image(1), image(2, label=2), image(3, label=1)])
    assert [run.final(i).finish_reason for i in (1, 2, 3)] == [
        FinishReason.STOP,
        FinishReason.ERROR,
        FinishReason.STOP,
    ]
    assert not run.chunks(2)


def test_a_score_that_is_not_finite_fails_alone() -> None:
    model = make_model()
    model.gated[1].class_terms.weight[2] = torch.nan
    values = torch.zeros(SIDE, SIDE, dtype=torch.int64)
    run = run_rows(sampler_of(model), [ScoreParams(values, label, 3) for label in (0, 2, None)])
    reasons = [run.final(i).finish_reason for i in (1, 2, 3)]
    assert reasons == [FinishReason.STOP, FinishReason.ERROR, FinishReason.ERROR]


def test_a_step_that_raises_leaves_every_row_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = sampler_of(make_model())
    states = [sampler.start(image(seed)) for seed in range(2)]
    sampler.step(states)
    before = [state.progress for state in states]

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampler.model, "head", broken)
    with pytest.raises(DeviceFailure):
        sampler.step(states)
    assert [state.progress for state in states] == before


def test_a_state_is_released_once() -> None:
    sampler = sampler_of(make_model())
    state = sampler.start(image(0))
    sampler.release(state)
    with pytest.raises(KeyError):
        sampler.release(state)


@dataclass
class TakesTheThird:
    """A finish that sends two levels back."""

    seen: list[Values]

    def whole(self, params: LevelParams, values: Values, attempt: int) -> tuple[Values, int] | None:
        self.seen.append(values)
        return (values, attempt) if attempt == 3 else None

    def preview(self, params: LevelParams, values: Values, rows: int) -> None:
        return None


def test_what_a_finish_sends_back_is_drawn_anew_from_further_draws() -> None:
    finish = TakesTheThird([])
    sampler = RowSampler(make_model(LEVELS), finish, 4)
    run = run_rows(sampler, [LevelParams(7, 1.0, 8, LEVELS.height)])
    (chunk,) = run.chunks(1)
    assert chunk[1] == 3
    assert run.final(1).units == 3 * LEVELS.height
    assert len({values.tobytes() for values in finish.seen}) == 3


def test_a_level_s_attempts_are_its_own_whoever_runs_beside_it() -> None:
    model = make_model(LEVELS)
    rows = [LevelParams(seed, 1.0, attempts, LEVELS.height) for seed, attempts in ((1, 3), (2, 1), (1, 2))]
    run = run_rows(RowSampler(model, LevelFinish(), 4), rows)
    for i, row in enumerate(rows, start=1):
        (chunk,) = run.chunks(i)
        (alone,) = list(bare_loop(RowSampler(model, LevelFinish(), 4), row))
        assert isinstance(chunk, LevelChunk)
        assert (chunk.level == alone.level).all()
        assert (chunk.attempts, chunk.well_formed, chunk.seed) == (row.attempts, False, row.seed)
        assert run.final(i).units == row.cost
