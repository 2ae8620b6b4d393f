"""A sampler that takes its time: an image of one colour, a step every `pace_s`: a stream lasts as long as asked.

It runs on replicas by the family `plugin`. Its option `version`, which a rolling update changes, is the image's colour.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.torch import save_file

from services.engine.contract import FinishReason, Preview, StepOutput
from services.nn.images import ImageChunk, Writing, encode_chunk, preview_steps, refuse_options
from shared.config.plugin import PluginModel
from shared.events import ImageDelta
from shared.schemas.images import ImageGenerationRequest

SIDE = 8
DEFAULT_STEPS = 4


@dataclass(frozen=True, slots=True)
class PacedParams:
    task: str
    steps: int
    writing: Writing
    previews: frozenset[int]

    @property
    def cost(self) -> float:
        return float(self.steps)


@dataclass(slots=True, eq=False)
class PacedState:
    params: PacedParams
    done: int = 0


@dataclass(frozen=True, slots=True)
class PacedImages:
    """`steps` are pauses."""

    encodes_slowly: ClassVar[bool] = False

    model: str

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[PacedParams]:
        refuse_options(request.sampling_options, ("steps",), self.model)
        steps = request.steps or DEFAULT_STEPS
        previews = preview_steps(request.partial_images or 0, steps)
        return [PacedParams("image", steps, Writing.of(request), previews) for _ in range(request.n)]

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


class PacedSampler:
    """One pause a step, whatever the batch: all rows of it advance."""

    def __init__(self, config: PluginModel, folder: Path) -> None:
        self._pace_s = float(str(config.options.get("pace_s", 0.25)))
        self._pixels = np.full((SIDE, SIDE, 3), int(str(config.options.get("version", 1))), dtype=np.uint8)
        self._max_batch_size = config.max_batch_size
        self.tasks: Mapping[str, PacedImages] = {"image": PacedImages(config.id)}
        self.memory = 2**20
        self.limits: Mapping[str, float] = {"width": SIDE, "height": SIDE}

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: PacedParams) -> Hashable:
        return "image"

    def fits(self, params: PacedParams, states: Sequence[PacedState]) -> bool:
        return len(states) < self._max_batch_size

    def start(self, params: PacedParams) -> PacedState:
        return PacedState(params)

    def step(self, states: Sequence[PacedState]) -> list[StepOutput[ImageChunk | Preview[ImageChunk]]]:
        time.sleep(self._pace_s)
        return [self._advance(state) for state in states]

    def _advance(self, state: PacedState) -> StepOutput[ImageChunk | Preview[ImageChunk]]:
        state.done += 1
        params = state.params
        is_last = state.done == params.steps
        if not is_last and state.done not in params.previews:
            return StepOutput(None, None, 1.0)
        image = ImageChunk(
            self._pixels, params.writing, seed=0, step=state.done, steps=params.steps, is_preview=not is_last
        )
        return StepOutput(image if is_last else Preview(image), FinishReason.STOP if is_last else None, 1.0)

    def release(self, state: PacedState) -> None:
        """Nothing is held outside of the state."""


def write_weights(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"unused": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "paced"}\n')
