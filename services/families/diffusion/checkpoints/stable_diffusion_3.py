"""Owns Stable Diffusion 3 (Esser et al. 2024, arXiv:2403.03206): a flow-matching transformer and two CLIP encoders.

The third encoder, T5, is an option of these checkpoints, and is left out here: its states are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import structlog
import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModelWithProjection

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

_T5_TOKENS = 256


class StableDiffusion3(LatentDenoiser):
    """Implements `Denoiser`. A condition is the encoders' states (L + 256, D), and their pooled texts (P1 + P2,)."""

    def __init__(self, folder: Folder) -> None:
        if folder.has("text_encoder_3"):
            structlog.get_logger(__name__).info("part_left_out", part="text_encoder_3", reason="T5 is not run")
        self.transformer = folder.load(SD3Transformer2DModel, "transformer")
        super().__init__(folder, "transformer", self.transformer)
        self.tokenizers = [ClipTokenizer(folder, part) for part in ("tokenizer", "tokenizer_2")]
        self.encoders = [folder.load(CLIPTextModelWithProjection, part) for part in ("text_encoder", "text_encoder_2")]
        for module in (self.transformer, *self.encoders):
            quick(module, folder.device)
        self.unprompted = self.read("", "prompt")

    def read(self, text: str, param: str) -> Prompt:
        return read_all(self.tokenizers, text, param)

    def encode(self, prompts: Sequence[Prompt]) -> list[Condition]:
        outputs = [
            encoder(ids_of(prompts, i, self.device), output_hidden_states=True)
            for i, encoder in enumerate(self.encoders)
        ]
        clip = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)  # (B, L, D1 + D2)
        width = int(self.config.joint_attention_dim)
        states = functional.pad(clip, (0, width - clip.shape[-1], 0, _T5_TOKENS))  # (B, L + 256, D)
        pooled = torch.cat([output[0] for output in outputs], dim=-1)
        return list(zip(states, pooled, strict=True))

    def predict(self, x: Tensor, time: Tensor, conditions: Sequence[Condition]) -> Tensor:
        states, pooled = stacked(conditions)
        out = self.transformer(
            hidden_states=x,
            timestep=time,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            return_dict=False,
        )
        return cast(Tensor, out[0])

    def memory(self, latent: Shape) -> int:
        _, height, width = latent
        tokens = height * width // int(self.config.patch_size) ** 2 + _T5_TOKENS + self.tokenizers[0].length
        inner = int(self.config.num_attention_heads) * int(self.config.attention_head_dim)
        return 24 * tokens * inner * self.dtype.itemsize

    def canvas(self) -> Canvas:
        factor, patch = self.autoencoder.factor, int(self.config.patch_size)
        side = int(self.config.sample_size) * factor
        return Canvas(
            size=(side, side),
            channels=self.autoencoder.channels,
            latent_channels=self.autoencoder.latent_channels,
            factor=factor,
            multiple=max(8, factor * patch),
            max_side=int(self.config.pos_embed_max_size) * factor * patch,
        )

    @property
    def nbytes(self) -> int:
        return weights_bytes(self.transformer, self.autoencoder.model, *self.encoders)


def load_stable_diffusion_3(folder: Folder) -> Checkpoint:
    schedule, solver = read_schedule(folder)
    if solver != "flow_euler":
        raise folder.refuse("its scheduler is none of flow matching")
    denoiser = StableDiffusion3(folder)
    return Checkpoint(denoiser, denoiser.canvas(), schedule, Defaults(28, 7.0, solver))
