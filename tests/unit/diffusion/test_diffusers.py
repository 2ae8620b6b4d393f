"""diffusers checkpoints draw what diffusers' own pipelines draw, step for step, from the same latents, in float64.

The pipelines' DDIM tables are widened to float64, so that what is left is rounding. Their Euler and flow schedulers
round each sample to float32 (a unit of 1e-7 of its size), which the rest of the steps carries on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from services.families.diffusion.state import start_noise, step_noise
from services.families.diffusion.tasks import ImageTask, VariationTask
from services.nn.images import to_unit
from shared.schemas.images import ImageGenerationRequest, ImageVariationRequest
from tests.diffusers_checkpoints import make_diffusers_checkpoint
from tests.unit.diffusion.driver import Model, Trace, load_folder, run
from tests.unit.diffusion.pictures import data_url, gradient

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own

LATENT_KINDS = ("stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3")
TOLERANCE = {"stable_diffusion": 1e-9, "stable_diffusion_xl": 2e-4, "stable_diffusion_3": 2e-5}
STEPS = 7


def pipeline_of(folder: Path, kind: Any = diffusers.DiffusionPipeline) -> Any:
    with torch.random.fork_rng(devices=[]):
        left_out = {"text_encoder_3": None, "tokenizer_3": None} if (folder / "transformer").exists() else {}
        pipeline = kind.from_pretrained(folder, dtype=torch.float64, local_files_only=True, **left_out)
    pipeline.set_progress_bar_config(disable=True)
    widen(pipeline.scheduler)
    return pipeline


def widen(scheduler: Any) -> None:
    if isinstance(scheduler, DDIMScheduler):
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()


def follow(pipeline: Any, **options: Any) -> tuple[list[Tensor], Tensor]:
    """The latents after each step, and the image (H, W, C) in [0, 1]."""
    samples: list[Tensor] = []

    def keep(_: Any, step: int, time: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        samples.append(tensors["latents"][0].clone())
        return tensors

    output = pipeline(output_type="np", callback_on_step_end=keep, **options)
    return samples, torch.from_numpy(np.asarray(output.images[0]))


def drawn(model: Model, **options: Any) -> tuple[Trace, Tensor]:
    """One row drawn by the sampler, and the noise that it starts from."""
    request = ImageGenerationRequest.model_validate({"model": "tiny", "seed": 3, **options})
    (params,) = ImageTask(model.drawing).prepare(request)
    (trace,) = run(model.sampler(), [params])
    return trace, start_noise(params)[None].double()


def check(trace: Trace, samples: list[Tensor], image: Tensor, tolerance: float) -> None:
    assert len(trace.samples) == len(samples)
    for step, (ours, theirs) in enumerate(zip(trace.samples, samples, strict=True)):
        size = max(1.0, theirs.abs().max().item())
        assert (ours - theirs).abs().max().item() <= tolerance * size, f"step {step}"
    assert (trace.pixels - image * 255).abs().max().item() <= 0.51 + 300 * tolerance


@pytest.mark.parametrize("kind", LATENT_KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "a red heart", "guidance_scale": 4.0},
        {"prompt": "a red heart", "guidance_scale": 2.5, "negative_prompt": "blue"},
        {"prompt": "green", "guidance_scale": 1.0},
    ],
    ids=["guided", "negative", "plain"],
)
def test_images_are_those_of_the_pipeline(
    models: Callable[[str], Model], folders: Callable[[str], Path], kind: str, options: dict[str, Any]
) -> None:
    trace, noise = drawn(models(kind), steps=STEPS, **options)
    samples, image = follow(pipeline_of(folders(kind)), latents=noise, num_inference_steps=STEPS, **options)
    check(trace, samples, image, TOLERANCE[kind])


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_a_larger_image_is_that_of_the_pipeline(
    models: Callable[[str], Model], folders: Callable[[str], Path], kind: str
) -> None:
    trace, noise = drawn(models(kind), steps=3, prompt="green", guidance_scale=3.0, size="40x48")
    pipeline = pipeline_of(folders(kind))
    samples, image = follow(
        pipeline, prompt="green", guidance_scale=3.0, latents=noise, num_inference_steps=3, width=40, height=48
    )
    check(trace, samples, image, TOLERANCE[kind])


def test_a_checkpoint_that_lists_a_t5_encoder_draws_what_the_pipeline_draws_without_it(tmp_path: Path) -> None:
    listed = {"text_encoder_3": ["transformers", "T5EncoderModel"], "tokenizer_3": ["transformers", "T5TokenizerFast"]}
    model = load_folder(make_diffusers_checkpoint("stable_diffusion_3", tmp_path, index=listed))
    options: dict[str, Any] = {"prompt": "a red heart", "guidance_scale": 4.0}
    trace, noise = drawn(model, steps=STEPS, **options)
    samples, image = follow(pipeline_of(tmp_path), latents=noise, num_inference_steps=STEPS, **options)
    check(trace, samples, image, TOLERANCE["stable_diffusion_3"])


@pytest.mark.parametrize(
    ("kind", "pipeline", "tolerance"),
    [
        ("stable_diffusion", diffusers.StableDiffusionImg2ImgPipeline, 1e-9),
        ("stable_diffusion_3", diffusers.StableDiffusion3Img2ImgPipeline, 2e-5),
    ],
)
def test_a_variation_is_that_of_the_image_to_image_pipeline(
    models: Callable[[str], Model], folders: Callable[[str], Path], kind: str, pipeline: Any, tolerance: float
) -> None:
    model, picture = models(kind), gradient(32, 32)
    request = ImageVariationRequest(
        model="tiny", seed=3, image=data_url(picture), prompt="green", strength=0.6, steps=10, guidance_scale=3.0
    )
    (params,) = VariationTask(model.drawing).prepare(request)
    # Their noise is drawn in float64, and so differs from ours of the same seed: we start from theirs.
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (trace,) = run(model.sampler(), [params], noise=noise[0])
    with torch.inference_mode():
        known = model.checkpoint.denoiser.to_latents(to_unit(picture, size=(32, 32), channels=3)[None])
    samples, image = follow(
        pipeline_of(folders(kind), pipeline),
        image=known.clone(),  # four channels: a latent already
        prompt="green",
        strength=0.6,
        guidance_scale=3.0,
        num_inference_steps=10,
        generator=torch.Generator().manual_seed(5),
    )
    assert len(samples) == 6
    check(trace, samples, image, tolerance)


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_pixels_are_those_of_unet_and_scheduler(
    models: Callable[[str], Model], folders: Callable[[str], Path], solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDPMPipeline takes no latents: its loop is written out here, around its own unet and scheduler."""
    model, pipeline = models("ddpm"), pipeline_of(folders("ddpm"))
    scheduler: Any = DDIMScheduler.from_config(pipeline.scheduler.config) if solver == "ddim" else pipeline.scheduler
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(STEPS)
    request = {"model": "tiny", "prompt": "", "seed": 3, "steps": STEPS, "solver": solver}
    (params,) = ImageTask(model.drawing).prepare(ImageGenerationRequest.model_validate(request))
    (trace,) = run(model.sampler(), [params])
    draws = iter(range(STEPS))
    noise = lambda *_, **__: step_noise(params, next(draws))[None].double()  # noqa: E731
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", noise)
    x, samples = start_noise(params)[None].double(), []
    for time in scheduler.timesteps:
        with torch.no_grad():
            x = scheduler.step(pipeline.unet(x, time).sample, time, x).prev_sample
        samples.append(x[0])
    check(trace, samples, (x[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0), 1e-6)
