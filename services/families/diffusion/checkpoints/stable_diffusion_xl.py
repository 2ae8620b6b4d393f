"""Owns Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952): two text encoders, and the size as a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from services.families.diffusion.checkpoints.components import (
    ClipTokenizer,
    Folder,
    ids_of,
    quick,
    read_all,
    read_schedule,
    weights_bytes,
)
from services.families.diffusion.checkpoints.stable_diffusion import LatentUNet
from services.families.diffusion.denoiser import Checkpoint, Condition, Defaults, Prompt, stacked

_ZEROS = Prompt((), 0)


class StableDiffusionXL(LatentUNet):
    """Implements `Denoiser`. A condition is both encoders' states (L, D1 + D2), and the pooled text (P,)."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        if self.config.addition_embed_type != "text_time":
            raise folder.refuse("its unet takes conditions that are not known here")
        if not folder.has("text_encoder") or folder.index.get("requires_aesthetics_score"):
            raise folder.refuse("it refines images of another model")
        self.tokenizers = [ClipTokenizer(folder, part) for part in ("tokenizer", "tokenizer_2")]
        self.first = folder.load(CLIPTextModel, "text_encoder")
        self.second = folder.load(CLIPTextModelWithProjection, "text_encoder_2")
        for encoder in (self.first, self.second):
            quick(encoder, folder.device)
        zeros = folder.index.get("force_zeros_for_empty_prompt", True)
        self.unprompted = _ZEROS if zeros else self.read("", "prompt")
        self._zeros = self._nothing()

    def read(self, text: str, param: str) -> Prompt:
        return read_all(self.tokenizers, text, param)

    def encode(self, prompts: Sequence[Prompt]) -> list[Condition]:
        told = [prompt for prompt in prompts if prompt.ids]
        read = iter(self._read(told) if told else [])
        return [next(read) if prompt.ids else self._zeros for prompt in prompts]

    def _read(self, prompts: Sequence[Prompt]) -> list[Condition]:
        first = self.first(ids_of(prompts, 0, self.device), output_hidden_states=True)
        second = self.second(ids_of(prompts, 1, self.device), output_hidden_states=True)
        # The states before the last layer; the pooled text of the second encoder alone.
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return list(zip(states, second[0], strict=True))

    def _nothing(self) -> Condition:
        with torch.inference_mode():
            ((states, pooled),) = self._read([self.read("", "prompt")])
        return torch.zeros_like(states), torch.zeros_like(pooled)

    def predict(self, x: Tensor, time: Tensor, conditions: Sequence[Condition]) -> Tensor:
        states, pooled = stacked(conditions)
        height, width = (side * self.autoencoder.factor for side in x.shape[-2:])
        # Original size, crop's corner, target size: an image that was made at its size and not cropped.
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=x.dtype, device=x.device)
        added = {"text_embeds": pooled, "time_ids": sizes.expand(len(x), -1)}
        out = self.unet(x, time, encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False)
        return cast(Tensor, out[0])

    @property
    def nbytes(self) -> int:
        return weights_bytes(self.unet, self.autoencoder.model, self.first, self.second)


def load_stable_diffusion_xl(folder: Folder) -> Checkpoint:
    schedule, solver = read_schedule(folder)
    denoiser = StableDiffusionXL(folder)
    return Checkpoint(denoiser, denoiser.canvas(), schedule, Defaults(50, 5.0, solver))
