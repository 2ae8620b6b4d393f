"""Owns the embedded model behind the sampler's names: captions read once, pixels denoised as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.captions import MAX_WORDS, Captions, pad, words_of
from services.families.diffusion.denoiser import Canvas, Checkpoint, Condition, Defaults, Prompt, Shape, stacked
from services.families.diffusion.model import EmojiDenoiser
from services.nn.errors import UnsupportedModel
from services.nn.linears import pack_linears, packed_bytes
from services.nn.noise_schedules import FlowSchedule
from shared.errors import ContextTooLong, InvalidRequest


class EmbeddedDenoiser:
    """Implements `Denoiser`. A condition is words (L, W), the caption (M,), and how much each word is there (L,)."""

    images_a_step = 1 << 30  # pixels are neither encoded nor decoded
    prompts_a_step = 1 << 30  # a few words each
    guides = True
    blends = True
    unprompted = Prompt(((),), 0)

    def __init__(self, model: EmojiDenoiser, captions: Captions) -> None:
        self.model, self.captions = model, captions
        weight = next(model.parameters())
        self.dtype, self.device = weight.dtype, weight.device

    def read(self, text: str, param: str) -> Prompt:
        try:
            ids = tuple(self.captions.encode(text))
        except ValueError:
            words = len(words_of(text))
            raise ContextTooLong(limit=MAX_WORDS, got=words, param=param, detail=" (a word is a token)") from None
        if (unread := self.captions.unread(text)) or (text.strip() and not ids):
            raise InvalidRequest(self._unreadable(unread or [text.strip()]), param=param)
        return Prompt((ids,), len(ids))

    def _unreadable(self, unread: Sequence[str]) -> str:
        named = ", ".join(f"'{each[:32]}'" for each in unread[:MAX_WORDS])
        return f"This model knows {len(self.captions.vocabulary)} words; unknown to it: {named}."

    def encode(self, prompts: Sequence[Prompt]) -> list[Condition]:
        longest = [[0] * self.model.architecture.caption_length]  # so that all have the same length
        ids, mask = pad([*(prompt.ids[0] for prompt in prompts), *longest])
        ids, mask = ids[:-1].to(self.device), mask[:-1].to(self.device)
        words, captions = self.model.captions(ids, mask)
        there = mask.to(words.dtype)
        return list(zip(words * there[..., None], captions, there, strict=True))

    def predict(self, x: Tensor, time: Tensor, conditions: Sequence[Condition]) -> Tensor:
        words, captions, there = stacked(conditions)
        length = max(1, int(there.any(0).sum()))  # words come first: what is behind the longest caption is nowhere
        # On the way between two captions a word of one alone is attended to by its share.
        seen = there[:, :length].log()
        # Times stay as they are: half has but a hundred of them between 0.5 and 1.
        return self.model.predict(x, time, words[:, :length], captions, seen)

    def to_latents(self, images: Tensor) -> Tensor:
        return images

    def to_images(self, latents: Tensor) -> Tensor:
        return latents

    def memory(self, latent: Shape) -> int:
        a = self.model.architecture
        tokens = a.grid**2 + a.caption_length
        scores = tokens**2 * a.heads
        return 16 * (tokens * a.width + scores) * self.dtype.itemsize

    def codec_memory(self, latent: Shape) -> int:
        return 0

    @property
    def nbytes(self) -> int:
        return sum(weight.nbytes for weight in self.model.parameters()) + packed_bytes(self.model)


def load_embedded(folder: Path, dtype: torch.dtype, device: torch.device) -> Checkpoint:
    """Raises UnsupportedModel if the folder's configuration is another model's."""
    try:
        emoji = emoji_checkpoint.load(folder, dtype=dtype, device=device)
    except ValidationError as error:
        raise UnsupportedModel("the checkpoint", "it is neither built in nor a diffusers folder") from error
    if device.type == "cpu":
        pack_linears(emoji.denoiser)
    size, defaults = emoji.config.sample_size, emoji.config.defaults
    return Checkpoint(
        denoiser=EmbeddedDenoiser(emoji.denoiser, emoji.captions),
        canvas=Canvas((size, size), channels=3, latent_channels=3, fixed=True),
        schedule=FlowSchedule(),
        defaults=Defaults(defaults.steps, defaults.guidance_scale, defaults.solver),
    )
