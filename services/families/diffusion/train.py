"""Owns how emoji-diffusion is trained: rectified flow with captions that are sometimes left out.

No augmentation: the pictures are few, and each is to be drawn as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.captions import Captions, pad
from services.families.diffusion.emoji_data import Emoji, read_data, write_data
from services.families.diffusion.emoji_flow import Batch, FixedDraws, flow_loss
from services.families.diffusion.emoji_sampling import draw
from services.families.diffusion.emoji_sheet import captioned_sheet
from services.families.diffusion.evaluation import evaluate
from services.families.diffusion.evaluation_sample import write_sample
from services.families.diffusion.model import Architecture, EmojiDenoiser
from services.training.packages import EMOJI
from services.training.recipe import Evaluation, Licence, Package, Phase, Schedule

_NULL_SHARE = 0.1  # of captions left out, for classifier-free guidance
_ALIAS_SHARE = 0.15  # of captions that are another name of the picture
_VALIDATED, _SAMPLED = 256, 32


class EmojiTraining:
    """A run: the denoiser with its caption encoder, and the pictures in memory."""

    def __init__(self, emoji: Emoji, denoiser: EmojiDenoiser, captions: Captions) -> None:
        self.modules: Mapping[str, nn.Module] = {"denoiser": denoiser}
        self.averaged: Sequence[str] = ("denoiser",)
        self.phases: Sequence[Phase] = (
            Phase("denoiser", ("denoiser",), learning_rate=1e-3, betas=(0.9, 0.99), weight_decay=0.01),
        )
        self.captions = captions
        trained, self._held_out = emoji.part(held_out=False), emoji.part(held_out=True)
        self._trained = trained
        self._names = pad([captions.encode(picture.name) for picture in trained.pictures])
        length = self._names[0].shape[1]
        # Another name for the pictures that have one; the name again for the others.
        self._aliases = pad([captions.encode((*p.aliases, p.name)[0]) for p in trained.pictures], length=length)
        self._fixed = FixedDraws.of(trained, captions, _VALIDATED, seed=0)
        self._fixed_held_out = FixedDraws.of(self._held_out, captions, 4 * len(self._held_out.pictures), seed=0)

    @property
    def examples(self) -> int:
        return len(self._trained.pictures)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Batch:
        """Images (B, 3, 32, 32), and caption ids and mask (B, L)."""
        chance = torch.rand(len(indices), 1, generator=generator)
        is_alias = chance < _ALIAS_SHARE
        is_null = chance > 1 - _NULL_SHARE
        ids = torch.where(is_alias, self._aliases[0][indices], self._names[0][indices])
        mask = torch.where(is_alias, self._aliases[1][indices], self._names[1][indices]) & ~is_null
        return self._trained.images[indices], ids, mask

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Times are logit-normal, densest half-way (Esser et al. 2024, arXiv:2403.03206, eq. 19)."""
        device = batch[0].device
        times = torch.randn(len(batch[0]), generator=generator).sigmoid().to(device)
        noise = torch.randn(batch[0].shape, generator=generator).to(device)
        return flow_loss(modules["denoiser"], batch, noise, times), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """The flow loss on fixed draws. `metric` is of training pictures: they are to be learnt by heart."""
        denoiser = modules["denoiser"]
        return {"metric": self._fixed.loss(denoiser), "held_out_pairs": self._fixed_held_out.loss(denoiser)}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        """Three rows of training names, one of held-out pairs."""
        names, unseen = self._trained.names, self._held_out.names
        count = _SAMPLED * 3 // 4
        prompts = [*(names[place * len(names) // count] for place in range(count)), *unseen[: _SAMPLED - count]]
        denoiser = cast(EmojiDenoiser, modules["denoiser"])
        return captioned_sheet(draw(denoiser, self.captions, prompts, range(len(prompts))), prompts)


class EmojiDiffusion:
    """The recipe of the embedded emoji model."""

    name = "emoji-diffusion"
    family = "diffusion"
    version = 1
    summary = (
        "Draws an emoji of 32 x 32 pixels from its name: a diffusion transformer (DiT; Peebles & Xie 2023) of 6 blocks "
        "on 4 x 4 patches that reads the name's words, trained by rectified flow (Liu et al. 2022; Lipman et al. 2022) "
        "with classifier-free guidance (Ho & Salimans 2022) on 546 Twemoji; 25 pairs of a "
        "colour and a shape were held out."
    )
    packages: Sequence[Package] = (EMOJI,)
    licence = Licence(
        data="Twemoji, from npm emoji-datasource-twitter 16.0.0",
        data_licence="CC-BY 4.0 (images), MIT (names)",
        attribution="Twemoji, copyright Twitter, Inc and other contributors, https://github.com/twitter/twemoji; "
        "laid on white, made smaller, and in part recoloured",
        weights="CC-BY-4.0",
    )
    schedule = Schedule(
        steps=6500,
        batch_size=64,
        warmup=200,
        decay="cosine",
        clip=1.0,
        ema=0.999,
        validate_every=500,
        sample_every=1000,
        precision="bf16",
    )
    max_bytes = 8 * 2**20

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_data(collected[EMOJI.name] / "package", folder)

    def build(self, data: Path, seed: int) -> EmojiTraining:
        emoji = read_data(data)
        captions = _vocabulary(emoji)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            denoiser = EmojiDenoiser(Architecture(words=len(captions)))
        return EmojiTraining(emoji, denoiser, captions)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """Also writes the sample of pictures that tests score the weights on."""
        emoji = read_data(data)
        emoji_checkpoint.save(folder, cast(EmojiDenoiser, modules["denoiser"]), _vocabulary(emoji))
        write_sample(folder, emoji)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate(weights, read_data(data))


def _vocabulary(emoji: Emoji) -> Captions:
    """Of what is trained on alone."""
    pictures = emoji.part(held_out=False).pictures
    return Captions.of(text for picture in pictures for text in (picture.name, *picture.aliases))
