"""The published emoji model, in each precision that it may be served in: an image in company is the image alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.families import diffusion
from services.families.diffusion.params import ImageParams
from services.families.diffusion.tasks import ImageTask
from shared.schemas.images import ImageGenerationRequest
from tests.unit.diffusion.driver import Model, load_folder, run

WEIGHTS = Path(diffusion.__file__).parent / "weights" / "emoji-diffusion"
LEVELS = 1  # of 255: the tolerance that is stated for every precision
REQUESTS = (
    {"prompt": "red heart", "steps": 10, "guidance_scale": 1.0},
    {"prompt": "grinning face", "steps": 20, "guidance_scale": 3.0},
    {"prompt": "tiger face", "steps": 50, "guidance_scale": 5.0},
    {"prompt": "blue circle", "steps": 10, "guidance_scale": 7.5},
)


def rows(model: Model) -> list[ImageParams]:
    task = ImageTask(model.drawing)
    requests = [
        ImageGenerationRequest.model_validate({"model": "m", "seed": seed, **request})
        for seed, request in enumerate(REQUESTS)
    ]
    return [task.prepare(request)[0] for request in requests]


# In bfloat16 a processor without AVX-512 takes most of a minute.
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
def test_a_mixed_batch_draws_what_each_row_draws_alone(dtype: torch.dtype) -> None:
    model = load_folder(WEIGHTS, dtype)
    together = run(model.sampler(), rows(model))
    for row, trace in zip(rows(model), together, strict=True):
        (alone,) = run(model.sampler(), [row])
        assert (alone.pixels.int() - trace.pixels.int()).abs().max() <= LEVELS
        assert alone.pixels.float().std() > 10  # a picture, not a plain area
