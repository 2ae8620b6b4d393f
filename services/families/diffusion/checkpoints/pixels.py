"""Owns checkpoints that denoise pixels without a prompt (UNet2DModel; DDPM, Ho et al. 2020), or with a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from services.families.diffusion.checkpoints.components import Folder, quick, read_schedule, weights_bytes
from services.families.diffusion.denoiser import Canvas, Checkpoint, Condition, Defaults, Prompt, Shape, stacked
from shared.errors import InvalidRequest

_NOTHING = Prompt((), 0)


class PixelDenoiser:
    """Implements `Denoiser`. A condition is empty, or the class as int64 ()."""

    images_a_step = 1 << 30  # pixels are neither encoded nor decoded
    prompts_a_step = 1 << 30
    guides = False  # nothing in the checkpoint says which class, if any, stands for none
    blends = False
    unprompted = _NOTHING

    def __init__(self, model: UNet2DModel, device: torch.device, dtype: torch.dtype, labels: Mapping[str, int]) -> None:
        self.model, self.device, self.dtype = model, device, dtype
        config = cast(Any, model).config
        self.classes = int(config.num_class_embeds or 0)
        self._labels = labels
        self._width = int(config.block_out_channels[0])

    def read(self, text: str, param: str) -> Prompt:
        """A class by its number or name; without classes, nothing may be asked for."""
        name = text.strip().lower()
        if self.classes == 0:
            if name:
                raise InvalidRequest("This model draws without a prompt; send an empty one.", param=param)
            return _NOTHING
        # Python reads no number of thousands of digits.
        if name.isascii() and name.isdigit() and len(name) < 10 and int(name) < self.classes:
            return Prompt(((int(name),),), 1)
        if name in self._labels:
            return Prompt(((self._labels[name],),), 1)
        known = f", or one of {', '.join(sorted(self._labels)[:32])}" if self._labels else ""
        raise InvalidRequest(
            f"This model draws classes: a number from 0 to {self.classes - 1}{known}; got '{text[:64]}'.", param=param
        )

    def encode(self, prompts: Sequence[Prompt]) -> list[Condition]:
        return [tuple(torch.tensor(ids[0], device=self.device) for ids in prompt.ids) for prompt in prompts]

    def predict(self, x: Tensor, time: Tensor, conditions: Sequence[Condition]) -> Tensor:
        labels = stacked(conditions)
        out: Any = self.model(x, time, class_labels=labels[0] if labels else None, return_dict=False)
        return cast(Tensor, out[0])

    def to_latents(self, images: Tensor) -> Tensor:
        return images

    def to_images(self, latents: Tensor) -> Tensor:
        return latents

    def memory(self, latent: Shape) -> int:
        _, height, width = latent
        return 32 * height * width * self._width * self.dtype.itemsize

    def codec_memory(self, latent: Shape) -> int:
        return 0

    @property
    def nbytes(self) -> int:
        return weights_bytes(self.model)


def load_pixels(folder: Folder) -> Checkpoint:
    model = folder.load(UNet2DModel, "unet")
    config = cast(Any, model).config
    if config.in_channels != config.out_channels:
        raise folder.refuse("its unet predicts a variance beside the image")
    if config.class_embed_type is not None:
        raise folder.refuse(f"its classes are embedded by {config.class_embed_type}")
    schedule, solver = read_schedule(folder)
    quick(model, folder.device)
    side = config.sample_size
    height, width = (side, side) if isinstance(side, int) else cast("tuple[int, int]", tuple(side))
    labels = {name.strip().lower(): int(number) for number, names in _labels(folder).items() for name in names}
    return Checkpoint(
        denoiser=PixelDenoiser(model, folder.device, folder.dtype, labels),
        canvas=Canvas((width, height), int(config.in_channels), int(config.in_channels), fixed=True),
        schedule=schedule,
        defaults=Defaults(50, 1.0, solver),
    )


def _labels(folder: Folder) -> dict[str, list[str]]:
    """Class names by number, as model_index.json may hold them: synonyms are separated by commas."""
    named = cast("dict[str, str]", folder.index.get("id2label") or {})
    return {number: text.split(",") for number, text in named.items()}
