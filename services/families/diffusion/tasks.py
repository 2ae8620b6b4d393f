"""Owns what clients may ask of a diffusion model: images, edits, variations, interpolations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Semaphore
from typing import ClassVar

import numpy as np
from PIL import Image

from services.families.diffusion.denoiser import Checkpoint, Defaults, Prompt
from services.families.diffusion.params import Blend, ImageParams, Mask, Source
from services.families.diffusion.sizes import size_of
from services.nn.canvas import seed_of
from services.nn.images import (
    EncodedImage,
    ImageChunk,
    Writing,
    check_volume,
    closed_mask,
    encode_chunk,
    mask_of,
    preview_steps,
    refuse_options,
    to_pixels,
    to_unit,
    unequal_mask,
)
from services.nn.rng import image_seed
from services.nn.solvers import SolverTable, StepsNotPossible
from shared.errors import InvalidRequest
from shared.events import ImageDelta
from shared.schemas.images import (
    ImageCall,
    ImageEditRequest,
    ImageGenerationRequest,
    ImageSampling,
    ImageVariationRequest,
    InterpolationRequest,
)

EDIT_STRENGTH = 0.8  # without a mask; with one, what is masked is drawn from nothing
VARIATION_STRENGTH = 0.5
DECODES = 2  # of clients' images at once, each of up to 8 bytes for each of MAX_PIXELS

Size = tuple[int, int]
_FromImage = ImageEditRequest | ImageVariationRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request's rows share."""

    size: Size
    table: SolverTable
    negative: Prompt | None
    guidance_scale: float
    writing: Writing
    previews: frozenset[int]


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the tasks share: the checkpoint and its bounds, and the way from a request to rows."""

    model: str
    checkpoint: Checkpoint
    defaults: Defaults
    max_pixels: int
    decoding: Semaphore = field(default_factory=lambda: Semaphore(DECODES))

    def plan(
        self, request: ImageSampling, *, previews: int = 0, strength: float = 1.0, prompts: Sequence[Prompt]
    ) -> Plan:
        """Check the options. Raises InvalidRequest. `strength` is the share of the steps that is taken, the last."""
        guides = self.checkpoint.denoiser.guides
        options = ("guidance_scale", "negative_prompt") if guides else ()
        refuse_options(request.sampling_options, ("steps", "solver", "strength", *options), self.model)
        size = self.size_of(request)
        table = self._table(request, strength)
        negative = self._negative(request, prompts)
        scale = self.defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
        return Plan(size, table, negative, scale, Writing.of(request), preview_steps(previews, len(table)))

    def size_of(self, request: ImageSampling, image: Size | None = None) -> Size:
        return size_of(request, self.checkpoint.canvas, self.max_pixels, image)

    def _table(self, request: ImageSampling, strength: float) -> SolverTable:
        solver, steps = request.solver or self.defaults.solver, request.steps or self.defaults.steps
        schedule = self.checkpoint.schedule
        if solver not in schedule.solvers:
            raise InvalidRequest(
                f"Model '{self.model}' is not solved by '{solver}', but by: {', '.join(schedule.solvers)}.",
                param="solver",
            )
        # At least one step is taken, however small the strength.
        taken = min(steps, max(1, int(steps * strength)))
        try:
            return schedule.table(solver, steps, steps - taken)
        except StepsNotPossible as error:
            raise InvalidRequest(f"{steps} steps of '{solver}': {error}.", param="steps") from None

    def _negative(self, request: ImageSampling, prompts: Sequence[Prompt]) -> Prompt | None:
        """What guidance leads away from; None if there is no guidance, or if it would change nothing."""
        scale = self.defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
        if scale == 1.0 or not self.checkpoint.denoiser.guides:
            if request.negative_prompt is not None:
                raise InvalidRequest("negative_prompt needs a guidance_scale other than 1.", param="negative_prompt")
            return None
        negative = self.checkpoint.denoiser.unprompted
        if request.negative_prompt is not None:
            negative = self.read(request.negative_prompt, "negative_prompt")
        return None if all(prompt == negative for prompt in prompts) else negative

    def read(self, text: str, param: str) -> Prompt:
        return self.checkpoint.denoiser.read(text, param)

    def row(self, plan: Plan, task: str, seed: int, prompt: Prompt) -> ImageParams:
        return ImageParams(
            task=task,
            seed=seed,
            noise_seed=seed,
            prompt=prompt,
            negative=plan.negative,
            guidance_scale=plan.guidance_scale,
            table=plan.table,
            latent=self.checkpoint.canvas.latent(plan.size),
            writing=plan.writing,
            previews=plan.previews,
        )


@dataclass(frozen=True, slots=True)
class _DrawingTask:
    """What every task shares: the drawing, and how images become events."""

    encodes_slowly: ClassVar[bool] = True

    drawing: Drawing

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


@dataclass(frozen=True, slots=True)
class ImageTask(_DrawingTask):
    """Images of a prompt."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[ImageParams]:
        prompt = self.drawing.read(request.prompt, "prompt")
        plan = self.drawing.plan(request, previews=request.partial_images or 0, prompts=[prompt])
        check_volume(request.n, *plan.size, "n")
        return [self.drawing.row(plan, "image", image_seed(request.seed, i), prompt) for i in range(request.n)]


@dataclass(frozen=True, slots=True)
class EditTask(_DrawingTask):
    """The image drawn anew where the mask lets it change, else the whole of it (SDEdit; Meng et al. 2021).

    arXiv:2108.01073. What is kept is noised to each step's level beside what is drawn, as in RePaint (arXiv:2201.09865)
    without its resampling, and pasted at the end.
    """

    def prepare(self, request: ImageEditRequest, salt: str = "") -> list[ImageParams]:
        default = EDIT_STRENGTH if request.mask is None else 1.0
        strength = default if request.strength is None else request.strength
        plan, prompt = plan_from_image(self.drawing, request, strength)
        image = EncodedImage.of(request.image, "image")
        mask = None if request.mask is None else EncodedImage.of(request.mask, "mask")
        if mask is not None and sorted(mask.size) != sorted(image.size):  # whichever way either is turned
            raise unequal_mask(image.size, mask.size)
        rows, size = rows_from_image(self.drawing, request, "edit", image, strength, plan, prompt)
        if mask is None:
            return rows
        kept = self._mask(mask, size, rows[0])
        return [replace(row, mask=kept) for row in rows]

    def _mask(self, mask: EncodedImage, size: Size, row: ImageParams) -> Mask:
        """The mask of an image that is so large upright."""
        source = row.source
        if source is None:
            raise RuntimeError("an edit's row has no image")
        _, height, width = source.image.shape
        with self.drawing.decoding:
            given = mask_of(mask.decode())
            if given.size != size:
                raise unequal_mask(size, given.size)
            free = np.asarray(given.resize((width, height), Image.Resampling.NEAREST)) > 127
        if not free.any():
            raise closed_mask()
        return Mask(free, to_pixels(source.image[None])[0])


@dataclass(frozen=True, slots=True)
class VariationTask(_DrawingTask):
    """Images near the given one: it is noised by `strength`, and drawn anew from there."""

    def prepare(self, request: ImageVariationRequest, salt: str = "") -> list[ImageParams]:
        strength = VARIATION_STRENGTH if request.strength is None else request.strength
        plan, prompt = plan_from_image(self.drawing, request, strength)
        image = EncodedImage.of(request.image, "image")
        return rows_from_image(self.drawing, request, "variation", image, strength, plan, prompt)[0]


@dataclass(frozen=True, slots=True)
class InterpolationTask(_DrawingTask):
    """Frames between two seeds and two prompts: spherical in the noise, linear in the prompts' embeddings."""

    def prepare(self, request: InterpolationRequest, salt: str = "") -> list[ImageParams]:
        start_seed, end_seed = (
            seed_of(each, param, self.drawing.model) for each, param in ((request.start, "start"), (request.end, "end"))
        )
        start = self.drawing.read(request.start.prompt, "start.prompt")
        end = self.drawing.read(request.end.prompt, "end.prompt")
        if start != end and not self.drawing.checkpoint.denoiser.blends:
            raise InvalidRequest("This model's prompts have nothing between them; send equal ones.", param="end.prompt")
        plan = self.drawing.plan(request, prompts=[start, end])
        check_volume(request.frames, *plan.size, "frames")
        row = self.drawing.row(plan, "interpolation", image_seed(request.seed, 0), start)
        return [
            replace(
                row,
                noise_seed=start_seed,
                blend=Blend(end_seed, end, i / (request.frames - 1)),
            )
            for i in range(request.frames)
        ]


def plan_from_image(drawing: Drawing, request: _FromImage, strength: float) -> tuple[Plan, Prompt]:
    """All that can be checked before an image is decoded; the plan's size is what is asked for, or the model's own."""
    prompt = drawing.read(request.prompt, "prompt")
    previews = request.partial_images or 0
    return drawing.plan(request, previews=previews, strength=strength, prompts=[prompt]), prompt


def rows_from_image(
    drawing: Drawing,
    request: ImageCall,
    task: str,
    image: EncodedImage,
    strength: float,
    plan: Plan,
    prompt: Prompt,
) -> tuple[list[ImageParams], Size]:
    """`n` rows that start from an image, and its size upright; with strength 1 nothing is in the first sample."""
    with drawing.decoding:
        decoded = image.decode()
        size = drawing.size_of(request, decoded.size)
        check_volume(request.n, *size, "n")
        source = Source(to_unit(decoded, size=size, channels=drawing.checkpoint.canvas.channels))
    plan = replace(plan, size=size)
    rows = [
        replace(
            drawing.row(plan, task, image_seed(request.seed, i), prompt),
            source=source,
            starts_from_noise=strength >= 1.0,
        )
        for i in range(request.n)
    ]
    return rows, decoded.size
