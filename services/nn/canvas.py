"""Owns what image tasks of models with classes and a size of their own share: checks, classes, seeds, rows' facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.nn.classes import ClassPrompts
from services.nn.images import (
    EncodedImage,
    ImageChunk,
    Pixels,
    Writing,
    check_volume,
    closed_mask,
    mask_of,
    preview_steps,
    refuse_options,
    unequal_mask,
)
from services.nn.items import read_image, read_images
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.schemas.images import ImageCall, ImageSampling, InterpolationEnd, InterpolationRequest
from shared.schemas.items import GivenItems


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a row of an image knows beside how it is drawn. `label`: a class's number.

    `seed` is what the client is told; `steps` how many the row takes; `previews` after which of them one is due.
    """

    seed: int
    label: int
    writing: Writing
    prompt_tokens: int
    steps: int = 1
    previews: frozenset[int] = field(default=frozenset())

    def chunk(self, pixels: Pixels, *, step: int | None = None) -> ImageChunk:
        """The image itself, or with `step` a preview after so many steps."""
        return ImageChunk(
            pixels,
            self.writing,
            seed=self.seed,
            step=self.steps if step is None else step,
            steps=self.steps,
            is_preview=step is not None,
            prompt_tokens=self.prompt_tokens,
        )


@dataclass(frozen=True, slots=True)
class Canvas:
    """What all image tasks of one model know of it. Sizes in pixels; `options` are the sampling options it takes."""

    model: str
    width: int
    height: int
    channels: Literal[1, 3]
    prompts: ClassPrompts
    options: Sequence[str] = ()

    def check(self, request: ImageSampling, count: int, param: str) -> None:
        """Raises InvalidRequest: an option that the model does not have, a size that it does not draw, too many images.

        `param` is the field that says how many.
        """
        refuse_options(request.sampling_options, self.options, self.model)
        if request.dimensions not in (None, (self.width, self.height)):
            raise InvalidRequest(
                f"Model '{self.model}' draws images of {self.width}x{self.height} alone; got {request.size}.",
                param="size",
            )
        check_volume(count, self.width, self.height, param)

    def drawings(self, request: ImageCall, prompt: str, *, steps: int = 1) -> list[Drawing]:
        """The `n` images of a request, checked: each of its own seed, and of the class that the prompt names.

        Raises InvalidRequest as `check` does, and for a prompt that names no class.
        """
        self.check(request, request.n, "n")
        named = self.prompts.named(prompt, "prompt")
        previews = preview_steps(request.partial_images or 0, steps) if request.stream else frozenset[int]()
        seeds = [image_seed(request.seed, i) for i in range(request.n)]
        return [
            Drawing(
                seed=seed,
                label=named.label_for(seed, len(self.prompts)),
                writing=Writing.of(request),
                prompt_tokens=named.words,
                steps=steps,
                previews=previews,
            )
            for seed in seeds
        ]

    def given_images(self, request: GivenItems) -> list[Tensor]:
        """uint8 (C, H, W) of each item of `input`. Raises InvalidRequest as `read_images` does."""
        return read_images(request, width=self.width, height=self.height, channels=self.channels)

    def given_image(self, url: str, param: str) -> Tensor:
        """uint8 (C, H, W). Raises InvalidRequest as `read_image` does."""
        return read_image(url, param, width=self.width, height=self.height, channels=self.channels)

    def open_pixels(self, mask: str) -> NDArray[np.bool_]:
        """(H, W): where a mask lets an image of this size change.

        Raises InvalidRequest: no image, one of another size, a mask that lets nothing change.
        """
        encoded, size = EncodedImage.of(mask, "mask"), (self.width, self.height)
        if encoded.size != size:
            raise unequal_mask(size, encoded.size)
        is_open = np.asarray(mask_of(encoded.decode())) > 127
        if not is_open.any():
            raise closed_mask()
        return is_open

    def frame(self, request: InterpolationRequest, label: int, words: int, *, steps: int = 1) -> Drawing:
        """What all frames of an interpolation share: nothing else is drawn at random, so all tell the request's seed.

        `words` counts those that named both ends' classes.
        """
        return Drawing(image_seed(request.seed, 0), label, Writing.of(request), words, steps=steps)

    def seeded_end(self, end: InterpolationEnd, param: str) -> tuple[int, int, int]:
        """An interpolation's end that a seed draws: the seed, its class, and the words that named it.

        Raises InvalidRequest for a prompt that names no class, and for an end that is an image.
        """
        seed = seed_of(end, param, self.model)
        named = self.prompts.named(end.prompt, f"{param}.prompt")
        return seed, named.label_for(seed, len(self.prompts)), named.words


def seed_of(end: InterpolationEnd, param: str, model: str) -> int:
    """Raises InvalidRequest for an end that is an image, of a model that starts from seeds alone."""
    if end.seed is None:
        raise InvalidRequest(
            f"Model '{model}' starts from seeds alone; '{param}' gives an image.",
            param=f"{param}.image",
            code="unsupported_parameter",
        )
    return end.seed
