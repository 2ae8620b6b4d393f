"""Owns the family's entry: a checkpoint folder becomes a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
import torch

from services.families import LoadedModel
from services.families.diffusion.checkpoints.embedded import load_embedded
from services.families.diffusion.denoiser import Checkpoint, Defaults
from services.families.diffusion.sampler import DiffusionSampler, SamplerLimits
from services.families.diffusion.tasks import Drawing, EditTask, ImageTask, InterpolationTask, VariationTask
from services.nn.device import device_errors
from services.nn.errors import UnsupportedModel
from shared.config.diffusion import DiffusionModel

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(config: DiffusionModel, folder: Path) -> LoadedModel:
    """Load the embedded model or a diffusers checkpoint: safetensors and configurations, already verified.

    Raises UnsupportedModel for a kind of checkpoint, a part or a schedule that is not known, or for configured
    defaults that it cannot follow; DeviceFailure if the device fails.
    """
    with device_errors(), torch.inference_mode():
        checkpoint = read_checkpoint(folder, _DTYPES[config.dtype], torch.device(config.device))
    defaults = _defaults(config, checkpoint)
    drawing = Drawing(config.id, checkpoint, defaults, config.max_pixels)
    budget = _budget(config, checkpoint)
    memory = checkpoint.denoiser.nbytes + budget + checkpoint.denoiser.codec_memory(_largest(config, checkpoint))
    structlog.get_logger(__name__).info("model_loaded", model=config.id, memory_mb=memory >> 20)
    return LoadedModel(
        sampler=DiffusionSampler(
            checkpoint.denoiser, checkpoint.canvas.factor, SamplerLimits(config.max_batch_size, budget)
        ),
        tasks={
            "image": ImageTask(drawing),
            "edit": EditTask(drawing),
            "variation": VariationTask(drawing),
            "interpolation": InterpolationTask(drawing),
        },
        memory=memory,
        limits={
            "max_pixels": _max_pixels(config, checkpoint),
            "max_batch_size": config.max_batch_size,
            "default_steps": defaults.steps,
            "max_entries": 2 if checkpoint.denoiser.guides else 1,
        },
        revision=config.revision,
    )


def read_checkpoint(folder: Path, dtype: torch.dtype, device: torch.device) -> Checkpoint:
    """The model of a folder, in any precision. Raises UnsupportedModel."""
    if not (folder / "model_index.json").exists():
        return load_embedded(folder, dtype, device)
    # Only who serves a diffusers checkpoint pays for importing its parts.
    from services.families.diffusion.checkpoints.components import read_index  # noqa: PLC0415

    parts = read_index(folder, dtype, device)
    return _kinds(parts.pipeline)(parts)


def _kinds(pipeline: str) -> Callable[..., Checkpoint]:
    from services.families.diffusion.checkpoints import (  # noqa: PLC0415
        pixels,
        stable_diffusion,
        stable_diffusion_3,
        stable_diffusion_xl,
    )

    kinds: Mapping[str, Callable[..., Checkpoint]] = {
        "DDPMPipeline": pixels.load_pixels,
        "DDIMPipeline": pixels.load_pixels,
        "StableDiffusionPipeline": stable_diffusion.load_stable_diffusion,
        "StableDiffusionImg2ImgPipeline": stable_diffusion.load_stable_diffusion,
        "StableDiffusionXLPipeline": stable_diffusion_xl.load_stable_diffusion_xl,
        "StableDiffusionXLImg2ImgPipeline": stable_diffusion_xl.load_stable_diffusion_xl,
        "StableDiffusion3Pipeline": stable_diffusion_3.load_stable_diffusion_3,
    }
    if pipeline not in kinds:
        raise UnsupportedModel(pipeline, f"only these are: {', '.join(kinds)}")
    return kinds[pipeline]


def _defaults(config: DiffusionModel, checkpoint: Checkpoint) -> Defaults:
    """As models.yaml says, else as the checkpoint does."""
    given, own = config.sampling, checkpoint.defaults
    solver = given.solver or own.solver
    if solver not in checkpoint.schedule.solvers:
        raise UnsupportedModel(
            config.id, f"solver {solver} does not fit it; {', '.join(checkpoint.schedule.solvers)} do"
        )
    if given.guidance_scale not in (None, 1.0) and not checkpoint.denoiser.guides:
        raise UnsupportedModel(config.id, "it cannot be guided; leave sampling.guidance_scale out")
    guidance = own.guidance_scale if given.guidance_scale is None else given.guidance_scale
    return Defaults(given.steps or own.steps, guidance, solver)


def _max_pixels(config: DiffusionModel, checkpoint: Checkpoint) -> int:
    canvas = checkpoint.canvas
    return canvas.size[0] * canvas.size[1] if canvas.fixed else config.max_pixels


def _largest(config: DiffusionModel, checkpoint: Checkpoint) -> tuple[int, int, int]:
    """The latent of the largest image that may be asked for, as a strip: memory follows the area."""
    canvas = checkpoint.canvas
    if canvas.fixed:
        return canvas.latent(canvas.size)
    pixels = max(config.max_pixels, canvas.size[0] * canvas.size[1])
    return canvas.latent_channels, 1, -(-pixels // canvas.factor**2)


def _budget(config: DiffusionModel, checkpoint: Checkpoint) -> int:
    """Bytes for running samples: a full batch of the default size, guided; at least the largest image alone."""
    own = checkpoint.denoiser.memory(checkpoint.canvas.latent(checkpoint.canvas.size))
    return 2 * max(config.max_batch_size * own, checkpoint.denoiser.memory(_largest(config, checkpoint)))
