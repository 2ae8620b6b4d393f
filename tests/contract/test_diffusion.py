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

from services.families.diffusion.denoiser import Denoiser
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
from tests.contract.driver import run_rows
from tests.contract.suite import ContractCase, SamplerContract
from tests.diffusers_checkpoints import make_diffusers_checkpoint
from tests.unit.diffusion.driver import Model, load_folder, make_emoji_checkpoint, run
from tests.unit.diffusion.pictures import data_url, gradient, left_half_free

# A mate moves a sample by rounding alone, which every further step carries on: how far, as a share of the largest
# value, and how many levels of 255 that is in the picture at most.
SAMPLE_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.05}
LEVELS = {torch.float64: 0, torch.float32: 1, torch.bfloat16: 8}
KINDS = [
    ("emoji", torch.float64),
    ("emoji", torch.float32),
    ("emoji", torch.bfloat16),
    ("stable_diffusion", torch.float64),
]
HEAVY_KINDS = [("stable_diffusion", torch.float32), ("stable_diffusion", torch.bfloat16)]  # not through the whole suite
Kind = tuple[str, torch.dtype]
SOLVERS = {"emoji": ["flow_euler"], "stable_diffusion": ["ddim", "ddpm", "euler", "dpmpp_2m"]}


class Breaks:
    """A denoiser that raises once, when one of its methods has computed a batch of so many rows or more."""

    def __init__(self, inner: Denoiser, method: str = "predict", rows: int = 2) -> None:
        self.inner, self.broken = inner, False
        self._method, self._rows = method, rows

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._breaking(found) if name == self._method else found

    def _breaking(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        def broken(batch: Any, *others: Any) -> Any:
            out = compute(batch, *others)
            if not self.broken and len(batch) >= self._rows:
                self.broken = True
                raise RuntimeError("injected fault")
            return out

        return broken


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


Models = Callable[[Kind], Model]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    makers: dict[str, Callable[[Path], Path]] = {
        "emoji": make_emoji_checkpoint,
        "stable_diffusion": lambda folder: make_diffusers_checkpoint("stable_diffusion", folder),
    }
    loaded: dict[Kind, Model] = {}

    def model(kind: Kind) -> Model:
        if kind not in loaded:
            name, dtype = kind
            loaded[kind] = load_folder(makers[name](tmp_path_factory.mktemp(name)), dtype)
        return loaded[kind]

    return model


def name_of(kind: Kind) -> str:
    return f"{kind[0]}-{str(kind[1]).removeprefix('torch.')}"


@pytest.fixture(scope="module", params=KINDS, ids=name_of)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def rows(kind: Kind, models: Models) -> list[ImageParams]:
    """Of the heavier network those of at most 20 steps: the suite runs them dozens of times."""
    mixed = mixed_rows(models(kind), SOLVERS[kind[0]])
    return mixed if kind[0] == "emoji" else [row for row in mixed if len(row.table) <= 20]


@pytest.fixture(scope="module")
def drawn_alone(kind: Kind, models: Models, rows: list[ImageParams]) -> list[Pixels]:
    return [picture(run_rows(models(kind).sampler(), [params]).chunks(1)) for params in rows]


@pytest.fixture(scope="module")
def case(kind: Kind, models: Models, rows: list[ImageParams]) -> ContractCase[Pixels]:
    model = models(kind)
    return ContractCase(
        name=name_of(kind),
        make_sampler=lambda: model.sampler(max_batch_size=16),
        params=rows,
        result=picture,
        live=lambda sampler: sampler.live,
        equal=lambda a, b: levels_between(a, b) <= LEVELS[kind[1]],
        broken_batch=broken_batch,
    )


def levels_between(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


class TestDiffusion(SamplerContract):
    pass


@pytest.mark.parametrize("method", ["encode", "to_latents", "predict", "to_images"])
def test_a_fault_in_any_part_of_a_step_changes_no_result(
    kind: Kind, models: Models, rows: list[ImageParams], drawn_alone: list[Pixels], method: str
) -> None:
    """The part has computed before it fails: what it gave must not stay behind, or count twice."""
    sampler = models(kind).sampler(max_batch_size=16)
    sampler.denoiser = broken = Breaks(sampler.denoiser, method, rows=1)
    run = run_rows(sampler, rows)
    assert broken.broken
    assert sampler.live == 0
    for request, alone in enumerate(drawn_alone, start=1):
        assert run.final(request).finish_reason == "stop"
        assert levels_between(picture(run.chunks(request)), alone) <= LEVELS[kind[1]]


@pytest.mark.parametrize("kind", [*KINDS, *HEAVY_KINDS], ids=name_of)
def test_every_sample_of_a_mixed_batch_is_that_of_the_row_alone(kind: Kind, models: Models) -> None:
    """10, 20 and 50 steps, guided and not, of every solver: the samples after each step, not only the pixels."""
    model, (name, dtype) = models(kind), kind
    rows = mixed_rows(model, SOLVERS[name])
    together = run(model.sampler(max_batch_size=16), rows)
    for row, mixed in zip(rows, together, strict=True):
        (alone,) = run(model.sampler(), [row])
        assert len(alone.samples) == len(mixed.samples) == len(row.table)
        for step, (a, b) in enumerate(zip(alone.samples, mixed.samples, strict=True)):
            size = max(1.0, a.abs().max().item())
            assert (a - b).abs().max().item() <= SAMPLE_TOLERANCE[dtype] * size, f"{row.task}, step {step}"
        assert [chunk.step for chunk in alone.previews] == [chunk.step for chunk in mixed.previews]
        for a, b in zip(alone.previews, mixed.previews, strict=True):
            assert levels_between(a.pixels, b.pixels) <= LEVELS[dtype]


def test_a_row_that_is_not_finite_fails_alone(models: Models) -> None:
    model = models(("emoji", torch.float64))
    rows = mixed_rows(model, SOLVERS["emoji"])[:3]
    poisoned = replace(rows[1], guidance_scale=float("inf"), negative=rows[2].negative)
    traces = run(model.sampler(), [rows[0], poisoned, rows[2]])
    assert traces[1].reason == "error"
    assert traces[1].image is None
    for row, trace in ((rows[0], traces[0]), (rows[2], traces[2])):
        (alone,) = run(model.sampler(), [row])
        assert torch.equal(trace.pixels, alone.pixels)
