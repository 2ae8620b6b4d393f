"""A flow's steps: what they draw, previews, likelihoods, failures of single rows, the room in a batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.engine.contract import FinishReason, Preview
from services.engine.errors import DeviceFailure
from services.families.neural_ode.images import drawing
from services.families.neural_ode.images.drawing import Solver, draw
from services.families.neural_ode.images.model import VelocityField
from services.families.neural_ode.images.params import ImageParams, Point, ScoreParams
from services.families.neural_ode.images.paths import image_paths
from services.families.neural_ode.images.sampler import FlowSampler, ScoreChunk
from services.families.neural_ode.solvers import METHODS
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Writing, to_pixels
from tests.contract.driver import bare_loop, run_rows
from tests.unit.neural_ode.tiny import make_flow, make_images


def image_row(seed: int, steps: int = 4, label: int = 0, temperature: float = 1.0, **options: object) -> ImageParams:
    point = Point(seed, label)
    drawing = Drawing(seed, label, Writing("png", 90), 1, steps=steps, **options)  # type: ignore[arg-type]
    return ImageParams("image", point, point, 0.0, temperature, 2, drawing)


def score_row(image: Tensor, samples: int = 2, label: int | None = None, steps: int = 4) -> ScoreParams:
    return ScoreParams(image, label, samples, seed=5, steps=steps, evaluations=2)


def sampler_of(model: VelocityField, paths: int = 8, method: str = "midpoint") -> FlowSampler:
    return FlowSampler(model, METHODS[method], paths)


def only_image(sampler: FlowSampler, row: ImageParams) -> Tensor:
    (chunk,) = bare_loop(sampler, row)
    assert isinstance(chunk, ImageChunk)
    return torch.from_numpy(chunk.pixels)


@pytest.mark.parametrize("method", METHODS)
def test_stepping_a_row_draws_what_solving_at_once_draws(method: str) -> None:
    model = make_flow()
    row = image_row(3, steps=5, label=1, temperature=0.8)
    paths = image_paths(row, model)
    whole = draw(model, paths.state, paths.classes, Solver(method, 5))
    drawn = only_image(sampler_of(model, method=method), row)
    assert (drawn.int() - torch.from_numpy(to_pixels(whole)[0]).int()).abs().max() <= 1


def test_stepping_a_score_gives_what_solving_at_once_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = make_flow(), make_images(1)[1][0]
    row = score_row(image, samples=3, label=2)
    (chunk,) = bare_loop(sampler_of(model), row)
    assert isinstance(chunk, ScoreChunk)
    monkeypatch.setattr(drawing, "_ROWS", 3)
    at_once = drawing.likelihoods(
        model, image.expand(3, 1, 8, 8), Solver("midpoint", 4), classes=torch.tensor([2, 2, 2]), seed=5
    )
    assert chunk.value == pytest.approx(at_once.mean().item(), rel=1e-5)
    assert chunk.standard_error == pytest.approx((at_once.std() / 3**0.5).item(), rel=1e-3)


def test_a_temperature_scales_the_noise_and_a_seed_draws_it() -> None:
    model = make_flow()
    whole, half, other = (
        image_paths(image_row(seed, temperature=scale), model).state for seed, scale in ((1, 1.0), (1, 0.5), (2, 1.0))
    )
    assert torch.allclose(half, whole / 2)
    assert not torch.allclose(whole, other)


def test_previews_come_when_they_are_due_and_near_the_image() -> None:
    model = make_flow()
    row = image_row(1, steps=8, previews=frozenset({2, 7}))
    run = run_rows(sampler_of(model), [row])
    given = [output.chunk.chunk for output in run.outputs[1] if isinstance(output.chunk, Preview)]
    assert [chunk.step for chunk in given] == [2, 7]
    assert all(chunk.is_preview for chunk in given)
    image = torch.from_numpy(run.chunks(1)[0].pixels).int()
    early, late = ((torch.from_numpy(chunk.pixels).int() - image).abs().float().mean().item() for chunk in given)
    assert late < early


def test_a_row_that_is_not_finite_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_flow()
    sampler = sampler_of(model)
    states = [sampler.start(image_row(seed, steps=1)) for seed in range(3)]
    original = model.forward

    def spoilt(x: Tensor, time: Tensor, weights: Tensor) -> Tensor:
        velocity = original(x, time, weights).clone()
        velocity[1, 0, 3, 3] = torch.nan
        return velocity

    monkeypatch.setattr(model, "forward", spoilt)
    outputs = sampler.step(states)
    assert [output.finish_reason for output in outputs] == [FinishReason.STOP, FinishReason.ERROR, FinishReason.STOP]
    assert outputs[1].chunk is None


def test_a_batch_holds_so_many_paths() -> None:
    sampler = sampler_of(make_flow(), paths=8)
    image = make_images(1)[0][0]
    large = sampler.start(score_row(image, samples=6))
    assert sampler.fits(score_row(image, samples=2), [large])
    assert not sampler.fits(score_row(image, samples=3), [large])
    assert sampler.fits(score_row(image, samples=8), [])
    assert sampler.batch_key(image_row(0)) != sampler.batch_key(score_row(image))


def test_scores_and_images_wait_for_one_another_and_all_end() -> None:
    image = make_images(1)[0][0]
    rows = [image_row(1), score_row(image), image_row(2), score_row(image, samples=8)]
    sampler = sampler_of(make_flow())
    run = run_rows(sampler, rows)
    assert all(run.final(i).finish_reason is FinishReason.STOP for i in range(1, 5))
    assert not sampler.rows


def test_a_device_that_fails_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_flow()

    def broken(x: Tensor, time: Tensor, weights: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(model, "forward", broken)
    sampler = sampler_of(model)
    with pytest.raises(DeviceFailure):
        sampler.step([sampler.start(image_row(0))])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_lower_precision_draws_and_scores_nearly_the_same(dtype: torch.dtype) -> None:
    exact, rough = sampler_of(make_flow()), sampler_of(make_flow().to(dtype))
    a, b = (only_image(sampler, image_row(1, label=2)) for sampler in (exact, rough))
    assert (a.int() - b.int()).abs().float().mean() < 12
    image = make_images(1)[2][0]
    (known,), (found,) = (list(bare_loop(sampler, score_row(image))) for sampler in (exact, rough))
    assert found.value == pytest.approx(known.value, rel=0.05)
