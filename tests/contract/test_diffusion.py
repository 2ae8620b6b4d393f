"""The diffusion family passes the contract suite: rows of different steps, guidance, solvers and tasks in one batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.families.diffusion.denoiser import Condition, Denoiser
from services.families.diffusion.params import ImageParams
from services.families.diffusion.sampler import DiffusionSampler
from services.families.diffusion.tasks import EditTask, ImageTask, InterpolationTask, VariationTask
from services.nn.images import ImageChunk, Pixels
from shared.schemas.images import (
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    InterpolationRequest,
)
from tests.contract.suite import ContractCase, SamplerContract
from tests.diffusers_checkpoints import make_diffusers_checkpoint
from tests.unit.diffusion.driver import Model, load_folder, make_emoji_checkpoint, run
from tests.unit.diffusion.pictures import data_url, gradient, left_half_free

# In float64 a mate moves a sample by rounding alone: 1e-8, far from a level of 255.
SAMPLE_TOLERANCE = 1e-8
SOLVERS = {"emoji": ["flow_euler"], "stable_diffusion": ["ddim", "ddpm", "euler", "dpmpp_2m"]}


class Breaks:
    """A denoiser that raises once, when it has computed a batch of two rows or more."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.broken = inner, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def predict(self, x: Tensor, time: Tensor, conditions: Sequence[Condition]) -> Tensor:
        out = self.inner.predict(x, time, conditions)
        if not self.broken and len(x) > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return out


@contextmanager
def broken_batch(sampler: DiffusionSampler) -> Generator[None]:
    kept, broken = sampler.denoiser, Breaks(sampler.denoiser)
    sampler.denoiser = broken
    yield
    assert broken.broken, "no step failed"
    sampler.denoiser = kept


def mixed_rows(model: Model, solvers: Sequence[str]) -> list[ImageParams]:
    """Images, a masked edit, a variation and frames, with 10, 20 and 50 steps."""
    size = model.checkpoint.canvas.size
    picture, mask = data_url(gradient(*size)), data_url(left_half_free(*size))
    base = {"model": "tiny", "seed": 1}
    images = [
        {"prompt": "red heart", "steps": 20, "guidance_scale": 3.0, "solver": solvers[0], "stream": True},
        {"prompt": "blue square", "steps": 50, "guidance_scale": 1.0, "solver": solvers[-1], "seed": 2},
        {"prompt": "green", "steps": 10, "guidance_scale": 5.5, "negative_prompt": "red", "solver": solvers[-2:][0]},
        {"prompt": "", "steps": 10, "solver": solvers[1:2][0] if solvers[1:] else solvers[0], "seed": 2**62},
    ]
    images[0]["partial_images"] = 3
    rows = [ImageTask(model.drawing).prepare(ImageGenerationRequest.model_validate(base | each))[0] for each in images]
    edit = base | {"image": picture, "mask": mask, "prompt": "red", "steps": 10}
    vary = base | {"image": picture, "prompt": "blue", "steps": 20, "strength": 0.4}
    ends = base | {"start": {"seed": 1, "prompt": "red"}, "end": {"seed": 2, "prompt": "blue heart"}, "frames": 3}
    return [
        *rows,
        *EditTask(model.drawing).prepare(ImageEditRequest.model_validate(edit)),
        *VariationTask(model.drawing).prepare(ImageVariationRequest.model_validate(vary)),
        InterpolationTask(model.drawing).prepare(InterpolationRequest.model_validate(ends | {"steps": 10}))[1],
    ]


def picture(chunks: Sequence[ImageChunk]) -> Pixels:
    (chunk,) = chunks
    return chunk.pixels


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    makers: dict[str, Callable[[Path], Path]] = {
        "emoji": make_emoji_checkpoint,
        "stable_diffusion": lambda folder: make_diffusers_checkpoint("stable_diffusion", folder),
    }
    loaded: dict[str, Model] = {}

    def model(kind: str) -> Model:
        if kind not in loaded:
            loaded[kind] = load_folder(makers[kind](tmp_path_factory.mktemp(kind)))
        return loaded[kind]

    return model


@pytest.fixture(scope="module", params=SOLVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def case(kind: str, models: Callable[[str], Model]) -> ContractCase[Pixels]:
    model = models(kind)
    return ContractCase(
        name=kind,
        make_sampler=lambda: model.sampler(max_batch_size=16),
        params=mixed_rows(model, SOLVERS[kind]) if kind == "emoji" else _shorter(mixed_rows(model, SOLVERS[kind])),
        result=picture,
        live=lambda sampler: sampler.live,
        equal=np.array_equal,
        broken_batch=broken_batch,
    )


def _shorter(rows: Sequence[ImageParams]) -> list[ImageParams]:
    """Those of at most 20 steps: the suite runs them dozens of times through a heavier network."""
    return [row for row in rows if len(row.table) <= 20]


class TestDiffusion(SamplerContract):
    pass


def test_every_sample_of_a_mixed_batch_is_that_of_the_row_alone(kind: str, models: Callable[[str], Model]) -> None:
    """10, 20 and 50 steps, guided and not, of every solver: the samples after each step, not only the pixels."""
    model = models(kind)
    rows = mixed_rows(model, SOLVERS[kind])
    together = run(model.sampler(max_batch_size=16), rows)
    for row, mixed in zip(rows, together, strict=True):
        (alone,) = run(model.sampler(), [row])
        assert len(alone.samples) == len(mixed.samples) == len(row.table)
        for step, (a, b) in enumerate(zip(alone.samples, mixed.samples, strict=True)):
            size = max(1.0, a.abs().max().item())
            assert (a - b).abs().max().item() <= SAMPLE_TOLERANCE * size, f"{row.task}, step {step}"
        assert [chunk.step for chunk in alone.previews] == [chunk.step for chunk in mixed.previews]
        for a, b in zip(alone.previews, mixed.previews, strict=True):
            assert np.array_equal(a.pixels, b.pixels)


def test_a_row_that_is_not_finite_fails_alone(models: Callable[[str], Model]) -> None:
    model = models("emoji")
    rows = mixed_rows(model, SOLVERS["emoji"])[:3]
    poisoned = replace(rows[1], guidance_scale=float("inf"), negative=rows[2].negative)
    traces = run(model.sampler(), [rows[0], poisoned, rows[2]])
    assert traces[1].reason == "error"
    assert traces[1].image is None
    for row, trace in ((rows[0], traces[0]), (rows[2], traces[2])):
        (alone,) = run(model.sampler(), [row])
        assert torch.equal(trace.pixels, alone.pixels)
