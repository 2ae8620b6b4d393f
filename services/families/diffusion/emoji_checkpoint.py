"""Owns the embedded model's folder: config.json and model.safetensors, written and read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from services.families.diffusion.captions import Captions
from services.families.diffusion.model import Architecture, EmojiDenoiser

MODEL_TYPE = "castalia-emoji-diffusion"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class ArchitectureConfig(BaseModel):
    """`model.Architecture` but for `words`, which follows from the vocabulary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(ge=8)
    patch: int = Field(ge=1)
    width: int = Field(ge=4)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    modulation: int = Field(ge=1)
    caption_width: int = Field(ge=1)
    caption_length: int = Field(ge=1)


class SamplingDefaults(BaseModel):
    """What a request that leaves these out gets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=20, ge=1)
    guidance_scale: float = Field(default=3.0, ge=0)
    solver: Literal["flow_euler"] = "flow_euler"


class EmojiConfig(BaseModel):
    """config.json. `prediction` flow: the velocity eps - x_0 of straight paths, at times in [0, 1], 1 being noise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["castalia-emoji-diffusion"] = MODEL_TYPE
    prediction: Literal["flow"] = "flow"
    sample_size: int = Field(ge=8)
    architecture: ArchitectureConfig
    defaults: SamplingDefaults = SamplingDefaults()
    vocabulary: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmojiCheckpoint:
    """A model ready to run, in evaluation mode, and how its captions are read."""

    denoiser: EmojiDenoiser
    captions: Captions
    config: EmojiConfig


def save(folder: Path, denoiser: EmojiDenoiser, captions: Captions) -> None:
    """Write config.json, and the weights in float16."""
    a = denoiser.architecture
    shape = {name: getattr(a, name) for name in ArchitectureConfig.model_fields}
    config = EmojiConfig(
        sample_size=a.image_size,
        architecture=ArchitectureConfig.model_validate(shape),
        vocabulary=captions.vocabulary,
    )
    (folder / _CONFIG).write_text(json.dumps(config.model_dump(mode="json"), indent=1) + "\n")
    weights = {name: tensor.detach().half().cpu().contiguous() for name, tensor in denoiser.state_dict().items()}
    # Not save_file: that makes a file for its owner alone.
    (folder / _WEIGHTS).write_bytes(safetensors_bytes(weights, metadata={"format": "pt"}))


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> EmojiCheckpoint:
    """What `save` wrote; its manifest was checked before.

    Raises pydantic's ValidationError for another kind of config, RuntimeError for weights that do not fit it.
    """
    config = EmojiConfig.model_validate_json((folder / _CONFIG).read_text())
    captions = Captions(config.vocabulary)
    architecture = Architecture(words=len(captions), **config.architecture.model_dump())
    denoiser = EmojiDenoiser(architecture)
    denoiser.load_state_dict(load_file(folder / _WEIGHTS))
    return EmojiCheckpoint(denoiser.to(device, dtype).eval().requires_grad_(False), captions, config)
