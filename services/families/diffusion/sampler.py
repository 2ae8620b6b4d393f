"""Owns diffusion's steps: rows at their own step, of their own number, solver, guidance and seed, share one forward.

A step has three phases. Rows that are new are read: prompts, and images by an autoencoder. Then every row that waits
for nothing takes one denoising step. Last, latents that are due are drawn. How many prompts and images a step takes in
or draws is bounded; what is left waits for the next. A prompt is read once while a row that has it runs. All is
computed on copies of the rows' progress, and committed at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.engine.contract import FinishReason, Preview, StepOutput
from services.families.diffusion.denoiser import Condition, Denoiser, Prompt, blended
from services.families.diffusion.guidance import Guide, guided
from services.families.diffusion.params import ImageParams
from services.families.diffusion.state import Entry, Picture, Progress, RowState, latent_mask, start_noise, step_noise
from services.nn.device import device_errors
from services.nn.images import ImageChunk, Pixels, to_pixels
from services.nn.solvers import COLUMNS

Output = StepOutput[ImageChunk | Preview[ImageChunk]]


@dataclass(frozen=True, slots=True)
class SamplerLimits:
    """`memory`: bytes for the samples of all running rows; what encoding and decoding takes is not part of it."""

    max_batch_size: int
    memory: int


@dataclass(slots=True, eq=False)
class _Move:
    """A row's step in the making."""

    row: RowState
    progress: Progress
    units: float = 0.0
    finite: bool = True
    chunk: ImageChunk | None = None

    @property
    def params(self) -> ImageParams:
        return self.row.params

    @property
    def done(self) -> bool:
        return self.progress.step == len(self.params.table)

    def output(self) -> Output:
        if not self.finite:
            return StepOutput(None, FinishReason.ERROR, self.units)
        if self.chunk is None:
            return StepOutput(None, None, self.units)
        if self.chunk.is_preview:
            return StepOutput(Preview(self.chunk), None, self.units)
        return StepOutput(self.chunk, FinishReason.STOP, self.units)


class DiffusionSampler:
    """Implements `services.engine.contract.Sampler`. The engine's thread alone calls it."""

    def __init__(self, denoiser: Denoiser, factor: int, limits: SamplerLimits) -> None:
        self.denoiser = denoiser
        self.live = 0  # rows
        self._factor, self._limits = factor, limits
        # Samples are kept in full precision: small steps of many would be lost in half.
        self._dtype = torch.promote_types(denoiser.dtype, torch.float32)
        self._step = 0
        self._rows = Counter[Prompt]()  # that run, by each prompt that they have
        self._conditions: dict[Prompt, Condition] = {}  # of those prompts that were read

    @property
    def max_batch_size(self) -> int:
        return self._limits.max_batch_size

    def batch_key(self, params: ImageParams) -> Hashable:
        """The latent's shape alone: solvers, steps, guidance, tasks and seeds share a batch."""
        return params.latent

    def fits(self, params: ImageParams, states: Sequence[RowState]) -> bool:
        taken = sum(self._memory(state.params) for state in states)
        return taken + self._memory(params) <= self._limits.memory

    def _memory(self, params: ImageParams) -> int:
        return params.entries * self.denoiser.memory(params.latent)

    def start(self, params: ImageParams) -> RowState:
        with device_errors():
            noise = self._placed(start_noise(params))
            free = latent_mask(params, self._factor)
            row = RowState(params, noise, None if free is None else free.to(self.denoiser.device), Progress())
        self.live += 1
        self._rows.update(params.prompts)
        return row

    def step(self, states: Sequence[RowState]) -> list[Output]:
        with torch.inference_mode(), device_errors():
            moves = [_Move(state, state.progress.copy()) for state in states]
            read = self._enter([move for move in moves if move.progress.entry is None])
            self._denoise([move for move in moves if move.progress.entry is not None and move.progress.picture is None])
            self._draw([move for move in moves if move.progress.picture is not None and move.finite])
            outputs = [move.output() for move in moves]
            self._step += 1
            for move in moves:
                move.row.progress = move.progress
            self._conditions |= read
        return outputs

    def release(self, state: RowState) -> None:
        state.progress = Progress()
        self.live -= 1
        for prompt in state.params.prompts:
            self._rows[prompt] -= 1
            if not self._rows[prompt]:
                del self._rows[prompt]
                self._conditions.pop(prompt, None)

    def _enter(self, moves: Sequence[_Move]) -> Mapping[Prompt, Condition]:
        """Read new rows, as many as a step may; the rest waits. Gives what prompts were read."""
        reading, prompts = self._next(moves)
        if not reading:
            return {}
        read = dict(zip(prompts, self.denoiser.encode(prompts), strict=True)) if prompts else {}
        conditions = self._conditions | read
        known = self._known(reading)
        for move in reading:
            params = move.params
            condition = conditions[params.prompt]
            if params.blend is not None and params.blend.prompt != params.prompt:
                condition = blended(condition, conditions[params.blend.prompt], params.blend.weight)
            negative = None if params.negative is None else conditions[params.negative]
            entry = move.progress.entry = Entry(condition, negative, known.get(id(move)))
            move.progress.x = self._first(move.row, entry)
        return read

    def _next(self, moves: Sequence[_Move]) -> tuple[list[_Move], list[Prompt]]:
        """The rows that a step reads, and their prompts that were not read yet, each once."""
        reading: list[_Move] = []
        prompts: dict[Prompt, None] = {}
        images = 0
        for move in moves:
            has_image = move.params.source is not None
            asked = prompts | dict.fromkeys(move.params.prompts - self._conditions.keys())
            too_many = prompts and len(asked) > max(len(prompts), self.denoiser.prompts_a_step)
            if too_many or (has_image and images == self.denoiser.images_a_step):
                continue
            reading.append(move)
            prompts, images = asked, images + has_image
        return reading, list(prompts)

    def _known(self, moves: Sequence[_Move]) -> dict[int, Tensor]:
        """The sources' latents (C, H, W), by the move's id."""
        given = [(id(move), move.params.source.image) for move in moves if move.params.source is not None]
        if not given:
            return {}
        images = torch.stack([image for _, image in given]).to(self.denoiser.device)
        latents = self.denoiser.to_latents(images).to(self._dtype)
        return {key: latent for (key, _), latent in zip(given, latents, strict=True)}

    def _first(self, row: RowState, entry: Entry) -> Tensor:
        """The sample (C, H, W) that the first step starts from."""
        table = row.params.table
        if entry.known is None or row.params.starts_from_noise:
            return table.start * row.noise
        signal, noise = table.levels[0].tolist()
        return signal * entry.known + noise * row.noise

    def _denoise(self, moves: Sequence[_Move]) -> None:
        """One solver step of every row, in one forward pass."""
        if not moves:
            return
        x = torch.stack([_sample(move) for move in moves])  # (B, C, H, W)
        lines = torch.stack([move.params.table.steps[move.progress.step] for move in moves])  # (B, columns) float64
        # Each column as (B, 1, 1, 1), beside the samples.
        at = dict(zip(COLUMNS, self._placed(lines)[..., None, None, None].unbind(1), strict=True))
        time = lines[:, COLUMNS.index("time")].to(x.device)
        out = guided(self.denoiser, at["scale"] * x, time, [_guide(move) for move in moves])
        clean = at["x0_x"] * x + at["x0_out"] * out
        if any(move.params.table.clips for move in moves):
            clean = torch.clamp(clean, -at["clip"], at["clip"])
        after = at["to_x"] * x + at["to_out"] * out + at["to_x0"] * clean
        if any(move.params.table.looks_back for move in moves):
            after = after + at["to_previous"] * torch.stack([_previous(move) for move in moves])
        if any(move.params.table.draws_noise for move in moves):
            after = self._with_noise(after, at["to_noise"], moves)
        finite = after.flatten(1).isfinite().all(1).tolist()
        for i, move in enumerate(moves):
            self._take(move, after[i], clean[i], finite=finite[i])

    def _with_noise(self, after: Tensor, weights: Tensor, moves: Sequence[_Move]) -> Tensor:
        """Fresh noise for the rows that draw it. after (B, C, H, W), weights (B, 1, 1, 1)."""
        rows = [i for i, move in enumerate(moves) if move.params.table.draws_noise]
        noise = torch.stack([step_noise(moves[i].params, moves[i].progress.step) for i in rows])
        index = torch.tensor(rows, device=after.device)
        return after.index_add(0, index, weights[index] * self._placed(noise))

    def _take(self, move: _Move, after: Tensor, clean: Tensor, *, finite: bool) -> None:
        """Note one row's step: its new sample, and whether an image is due."""
        progress, params, row = move.progress, move.params, move.row
        progress.step += 1
        move.units, move.finite = float(params.entries), finite
        entry = progress.entry
        if row.free is not None and entry is not None and entry.known is not None:
            signal, noise = params.table.levels[progress.step].tolist()
            after = torch.where(row.free, after, signal * entry.known + noise * row.noise)
        progress.x = after
        progress.previous = clean if params.table.looks_back else None
        if move.done:
            progress.picture = Picture(after, False, self._step)
        elif progress.step in params.previews:
            progress.picture = Picture(clean, True, self._step)

    def _draw(self, moves: Sequence[_Move]) -> None:
        """Decode what is due, longest first, as many as a step may."""
        due = [(move.progress.picture, move) for move in moves if move.progress.picture is not None]
        due = sorted(due, key=lambda pair: pair[0].since)[: self.denoiser.images_a_step]
        if not due:
            return
        images = self.denoiser.to_images(torch.stack([picture.latent for picture, _ in due]))
        finite = images.flatten(1).isfinite().all(1).tolist()
        for (picture, move), pixels, sound in zip(due, to_pixels(images), finite, strict=True):
            move.progress.picture = None
            move.finite = sound
            move.chunk = _chunk(move, pixels, is_preview=picture.is_preview)

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.denoiser.device, dtype=self._dtype)


def _sample(move: _Move) -> Tensor:
    x = move.progress.x
    if x is None:
        raise RuntimeError("a row takes a step before it was read")
    return x


def _previous(move: _Move) -> Tensor:
    """The clean sample of the step before; before a first step anything will do, since its weight is 0."""
    return _sample(move) if move.progress.previous is None else move.progress.previous


def _guide(move: _Move) -> Guide:
    entry = move.progress.entry
    if entry is None:
        raise RuntimeError("a row takes a step before it was read")
    return Guide(entry.condition, entry.negative, move.params.guidance_scale)


def _chunk(move: _Move, pixels: Pixels, *, is_preview: bool) -> ImageChunk:
    """What a mask keeps is pasted over the drawing, so that it stays as it is to the last bit."""
    params = move.params
    if params.mask is not None:
        pixels = np.where(params.mask.free[..., None], pixels, params.mask.pixels)
    return ImageChunk(
        pixels=pixels,
        writing=params.writing,
        seed=params.seed,
        step=move.progress.step,
        steps=len(params.table),
        is_preview=is_preview,
        prompt_tokens=params.prompt.tokens,
    )
