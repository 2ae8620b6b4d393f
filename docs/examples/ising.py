"""A family of your own: the Ising model (Ising 1925), drawn by checkerboard Gibbs sampling, through the plug-in path.

    mkdir -p ising && .venv/bin/python docs/examples/ising.py ising     # writes a folder of "weights": its coupling
    .venv/bin/castalia manifest ising
    PYTHONPATH=docs/examples .venv/bin/castalia up --models ising.yaml

with this ising.yaml

    services:
      - name: ising
        family: plugin
        models:
          - id: ising
            source: "file:///absolute/path/of/ising"
            sampler: ising:IsingSampler
            tasks: [image]
            modalities: [image]
            row_cost: 1000        # a request may ask for so many sweeps
            options: {side: 64}

and then, to /v1/images/generations, `{"model": "ising", "prompt": "", "steps": 200, "temperature": 1.1}`. It streams
previews, shares batches, keeps deadlines and is fair, as every family: none of that is written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.engine.contract import FinishReason, Preview, StepOutput
from services.nn.images import ImageChunk, Writing, check_volume, encode_chunk, preview_steps, refuse_options, to_pixels
from services.nn.rng import image_seed, row_generator
from shared.config.plugin import PluginModel
from shared.events import ImageDelta
from shared.schemas.images import ImageGenerationRequest

SWEEPS = 100  # of a request that does not say
A_STEP = 10  # sweeps of one quantum


@dataclass(frozen=True, slots=True)
class IsingParams:
    """One picture: `sweeps` of the whole grid at a temperature, in units of the critical one."""

    task: str
    sweeps: int
    temperature: float
    seed: int
    writing: Writing
    previews: frozenset[int]

    @property
    def cost(self) -> float:
        return float(self.sweeps)


@dataclass(slots=True, eq=False)
class IsingState:
    """spins float32 (L, L) of -1 and 1, after `done` sweeps; the generator is the row's own."""

    params: IsingParams
    generator: torch.Generator
    spins: Tensor
    done: int = 0


@dataclass(frozen=True, slots=True)
class IsingImages:
    """What clients may ask: `steps` are sweeps, `temperature` 1 is the critical temperature."""

    encodes_slowly: ClassVar[bool] = True

    model: str
    side: int

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[IsingParams]:
        refuse_options(request.sampling_options, ("steps", "temperature"), self.model)
        check_volume(request.n, self.side, self.side, "n")
        sweeps = request.steps or SWEEPS
        previews = preview_steps(request.partial_images or 0, sweeps)
        return [
            IsingParams(
                "image",
                sweeps,
                1.0 if request.temperature is None else request.temperature,
                image_seed(request.seed, i),
                Writing.of(request),
                previews,
            )
            for i in range(request.n)
        ]

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


class IsingSampler:
    """Up to `A_STEP` sweeps a step; rows differ in temperature, sweeps and progress, and never meet."""

    def __init__(self, config: PluginModel, folder: Path) -> None:
        self._side = int(str(config.options.get("side", 64)))
        self._coupling = float(load_file(folder / "model.safetensors")["coupling"])
        self._max_batch_size = config.max_batch_size
        rows, columns = torch.meshgrid(torch.arange(self._side), torch.arange(self._side), indexing="ij")
        self._black = (rows + columns) % 2 == 0
        self.tasks: Mapping[str, IsingImages] = {"image": IsingImages(config.id, self._side)}
        self.memory = 64 * self._side**2 * config.max_batch_size
        self.limits: Mapping[str, float] = {"width": self._side, "height": self._side}

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: IsingParams) -> Hashable:
        return "image"

    def fits(self, params: IsingParams, states: Sequence[IsingState]) -> bool:
        return len(states) < self._max_batch_size

    def start(self, params: IsingParams) -> IsingState:
        generator = row_generator(params.seed)
        spins = torch.randint(0, 2, (self._side, self._side), generator=generator).float() * 2 - 1
        return IsingState(params, generator, spins)

    def step(self, states: Sequence[IsingState]) -> list[StepOutput[ImageChunk | Preview[ImageChunk]]]:
        """Compute first, commit last: spins and generators change once nothing can fail any more."""
        quanta = [min(A_STEP, state.params.sweeps - state.done) for state in states]
        drafts = [state.generator.clone_state() for state in states]
        draws = torch.zeros(len(states), max(quanta), 2, self._side, self._side)
        for i, (draft, sweeps) in enumerate(zip(drafts, quanta, strict=True)):
            draws[i, :sweeps] = torch.rand(sweeps, 2, self._side, self._side, generator=draft)
        spins = torch.stack([state.spins for state in states])
        critical = 2 / torch.log1p(torch.tensor(2.0).sqrt())  # Onsager 1944, for a coupling of 1
        beta = self._coupling / critical / torch.tensor([state.params.temperature for state in states])
        for sweep in range(max(quanta)):
            active = torch.tensor([sweep < sweeps for sweeps in quanta])[:, None, None]
            for half, cells in enumerate((self._black, ~self._black)):
                field = sum(torch.roll(spins, shift, axis) for axis in (1, 2) for shift in (1, -1))
                up = torch.sigmoid(2 * beta[:, None, None] * field)  # of a spin, given its four neighbours
                drawn = torch.where(draws[:, sweep, half] < up, 1.0, -1.0)
                spins = torch.where(active & cells, drawn, spins)
        pixels = to_pixels(spins[:, None])
        outputs: list[StepOutput[ImageChunk | Preview[ImageChunk]]] = []
        for i, state in enumerate(states):
            done, params = state.done + quanta[i], state.params
            is_last = done == params.sweeps
            shows = is_last or any(state.done < due <= done for due in params.previews)
            image = ImageChunk(
                pixels[i],
                params.writing,
                seed=params.seed,
                step=done,
                steps=params.sweeps,
                is_preview=not is_last,
            )
            chunk = (image if is_last else Preview(image)) if shows else None
            outputs.append(StepOutput(chunk, FinishReason.STOP if is_last else None, float(quanta[i])))
        for i, state in enumerate(states):
            state.spins, state.generator, state.done = spins[i], drafts[i], state.done + quanta[i]
        return outputs

    def release(self, state: IsingState) -> None:
        """Nothing is held outside of the state."""


def write_weights(folder: Path, coupling: float = 1.0) -> None:
    """config.json and model.safetensors, as every folder of weights has them."""
    save_file({"coupling": torch.tensor(coupling)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "ising"}) + "\n")


if __name__ == "__main__":
    write_weights(Path(sys.argv[1]))
