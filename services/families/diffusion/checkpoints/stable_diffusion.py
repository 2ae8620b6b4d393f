"""Owns Stable Diffusion 1.x and 2.x (Rombach et al. 2022): UNet, autoencoder, one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from services.families.diffusion.checkpoints.components import (
    ClipTokenizer,
    Folder,
    LatentDenoiser,
    ids_of,
    quick,
    read_all,
    read_schedule,
    weights_bytes,
)
from services.families.diffusion.denoiser import Canvas, Checkpoint, Condition, Defaults, Prompt, Shape, stacked


class LatentUNet(LatentDenoiser):
    """What the UNets of Stable Diffusion share."""

    def __init__(self, folder: Folder) -> None:
        self.unet = folder.load(UNet2DConditionModel, "unet")
        super().__init__(folder, "unet", self.unet)
        config = self.config
        if config.time_cond_proj_dim is not None:
            raise folder.refuse("its guidance is distilled into the unet")
        if config.class_embed_type is not None or config.encoder_hid_dim_type is not None:
            raise folder.refuse("its unet takes conditions that are not known here")
        quick(self.unet, folder.device)

    def memory(self, latent: Shape) -> int:
        _, height, width = latent
        return 32 * height * width * int(self.config.block_out_channels[0]) * self.dtype.itemsize

    def canvas(self) -> Canvas:
        """Any size in multiples of 8 pixels, or of a latent cell where that is more."""
        side, factor = self.config.sample_size, self.autoencoder.factor
        height, width = (side, side) if isinstance(side, int) else cast("tuple[int, int]", tuple(side))
        return Canvas(
            size=(width * factor, height * factor),
            channels=self.autoencoder.channels,
            latent_channels=self.autoencoder.latent_channels,
            factor=factor,
            multiple=max(8, factor),
        )


class StableDiffusion(LatentUNet):
    """Implements `Denoiser`. A condition is the text encoder's last states (L, D)."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        if self.config.addition_embed_type is not None:
            raise folder.refuse("its unet takes conditions that are not known here")
        self.tokenizer = ClipTokenizer(folder, "tokenizer")
        self.text = folder.load(CLIPTextModel, "text_encoder")
        quick(self.text, folder.device)
        self.unprompted = self.read("", "prompt")

    def read(self, text: str, param: str) -> Prompt:
        return read_all([self.tokenizer], text, param)

    def encode(self, prompts: Sequence[Prompt]) -> list[Condition]:
        states = self.text(ids_of(prompts, 0, self.device))[0]  # (B, L, D)
        return [(each,) for each in states]

    def predict(self, x: Tensor, time: Tensor, conditions: Sequence[Condition]) -> Tensor:
        (states,) = stacked(conditions)
        return cast(Tensor, self.unet(x, time, encoder_hidden_states=states, return_dict=False)[0])

    @property
    def nbytes(self) -> int:
        return weights_bytes(self.unet, self.autoencoder.model, self.text)


def load_stable_diffusion(folder: Folder) -> Checkpoint:
    schedule, solver = read_schedule(folder)
    denoiser = StableDiffusion(folder)
    return Checkpoint(denoiser, denoiser.canvas(), schedule, Defaults(50, 7.5, solver))
