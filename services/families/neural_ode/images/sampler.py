"""Owns a flow's steps: rows at their own time, of their own number of steps, class and seed, share one forward."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.contract import FinishReason, Preview, StepOutput
from services.families.neural_ode.images.density import hutchinson, with_trace
from services.families.neural_ode.images.model import VelocityField
from services.families.neural_ode.images.params import ImageParams, ScoreParams
from services.families.neural_ode.images.paths import Paths, image_paths, score_paths
from services.families.neural_ode.images.pixels import to_unit
from services.families.neural_ode.solvers import Method, take_step
from services.nn.device import device_errors
from services.nn.images import ImageChunk, Pixels, to_pixels

RowParams = ImageParams | ScoreParams


@dataclass(frozen=True, slots=True)
class ScoreChunk:
    """An estimate of a log-likelihood in nats: the mean of a row's draws, and its standard error if there are two."""

    value: float
    standard_error: float | None
    seed: int
    dimensions: int
    given_class: bool


Chunk = ImageChunk | ScoreChunk
Output = StepOutput[Chunk | Preview[Chunk]]


@dataclass(slots=True, eq=False)
class FlowRow:
    """A running row: its paths, on the model's device, and the steps that they have taken."""

    params: RowParams
    paths: Paths
    step: int = 0

    @property
    def time(self) -> float:
        """From the number of steps, and not by adding widths up: the last one ends at 0 or 1."""
        done = self.step / self.params.steps
        return 1 - done if isinstance(self.params, ScoreParams) else done

    @property
    def width(self) -> float:
        return (-1 if isinstance(self.params, ScoreParams) else 1) / self.params.steps


class FlowSampler:
    """Implements `services.engine.contract.Sampler`. A batch holds so many paths: an image is one, a draw is one."""

    def __init__(self, model: VelocityField, method: Method, max_batch_size: int) -> None:
        self.model = model
        self.rows: set[FlowRow] = set()
        self._method, self._max_paths = method, max_batch_size

    @property
    def max_batch_size(self) -> int:
        return self._max_paths

    def batch_key(self, params: RowParams) -> Hashable:
        """A score's steps need gradients, an image's do not; all else is a number of the same step."""
        return isinstance(params, ScoreParams)

    def fits(self, params: RowParams, states: Sequence[FlowRow]) -> bool:
        return params.paths + sum(state.params.paths for state in states) <= self._max_paths

    def start(self, params: RowParams) -> FlowRow:
        weight = self.model.patches.weight
        # Steps are small: the states are kept in full precision, whatever the field computes in.
        dtype = torch.promote_types(weight.dtype, torch.float32)
        with device_errors():
            if isinstance(params, ScoreParams):
                paths = score_paths(params, self.model, dtype)
            else:
                paths = image_paths(params, self.model)
            row = FlowRow(params, _placed(paths, weight.device, dtype))
        self.rows.add(row)
        return row

    def step(self, states: Sequence[FlowRow]) -> list[Output]:
        # Not in inference mode: a score differentiates what is computed here.
        with torch.no_grad(), device_errors():
            before = torch.cat([row.paths.state for row in states])
            after = self._moved(states, before)
            pieces = after.split([row.params.paths for row in states])
            outputs = self._outputs(states, pieces)
        for row, piece in zip(states, pieces, strict=True):
            row.paths = row.paths.moved(piece)
            row.step += 1
        return outputs

    def release(self, state: FlowRow) -> None:
        self.rows.remove(state)

    def _moved(self, rows: Sequence[FlowRow], before: Tensor) -> Tensor:
        """All paths of the rows, a step on."""
        field = self.model.given(torch.cat([row.paths.classes for row in rows]))
        probes = [row.paths.probes for row in rows if row.paths.probes is not None]
        if probes:
            field = with_trace(field, hutchinson(torch.cat(probes)))
        time, width = (_each_path(rows, values) for values in ([r.time for r in rows], [r.width for r in rows]))
        return take_step(field, before, time.to(before.device), width.to(before.device), self._method)

    def _outputs(self, rows: Sequence[FlowRow], pieces: Sequence[Tensor]) -> list[Output]:
        finite = [bool(piece.isfinite().all()) for piece in pieces]
        due = [row for row, sound in zip(rows, finite, strict=True) if sound and isinstance(row.params, ImageParams)]
        pictures = self._pictures(due, dict(zip(rows, pieces, strict=True)))
        return [
            self._output(row, piece, pictures.get(row)) if sound else _failed(row)
            for row, piece, sound in zip(rows, pieces, finite, strict=True)
        ]

    def _output(self, row: FlowRow, piece: Tensor, pixels: Pixels | None) -> Output:
        params, done = row.params, row.step + 1
        ends = done == params.steps
        if isinstance(params, ScoreParams):
            score = self._score(row, params, piece) if ends else None
            return StepOutput(score, FinishReason.STOP if ends else None, params.step_cost)
        if pixels is None:
            return StepOutput(None, None, params.step_cost)
        if ends:
            return StepOutput(params.drawing.chunk(pixels), FinishReason.STOP, params.step_cost)
        return StepOutput(Preview(params.drawing.chunk(pixels, step=done)), None, params.step_cost)

    def _pictures(self, rows: Sequence[FlowRow], after: dict[FlowRow, Tensor]) -> dict[FlowRow, Pixels]:
        """Of rows that end with this step, and of those whose preview is due after it."""
        clean: dict[FlowRow, Tensor] = {}
        for row in rows:
            params, done = row.params, row.step + 1
            if isinstance(params, ImageParams) and (done == params.steps or done in params.drawing.previews):
                # Straight on at the step's mean velocity: the whole way that is left, none after the last step.
                velocity = (after[row] - row.paths.state) * params.steps
                clean[row] = after[row] + (1 - done / params.steps) * velocity
        if not clean:
            return {}
        config = self.model.config
        images = torch.cat(list(clean.values())).view(-1, config.channels, config.image_size, config.image_size)
        return dict(zip(clean, to_pixels(to_unit(images)), strict=True))

    def _score(self, row: FlowRow, params: ScoreParams, state: Tensor) -> ScoreChunk:
        values = row.paths.moved(state).log_likelihoods().double()
        error = values.std().item() / params.samples**0.5 if params.samples > 1 else None
        return ScoreChunk(
            values.mean().item(),
            error,
            seed=params.seed,
            dimensions=self.model.config.dimensions,
            given_class=params.label is not None,
        )


def _placed(paths: Paths, device: torch.device, dtype: torch.dtype) -> Paths:
    def placed(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device, dtype)

    state, classes = paths.state.to(device, dtype), paths.classes.to(device, dtype)
    return Paths(state, classes, placed(paths.probes), placed(paths.volume))


def _each_path(rows: Sequence[FlowRow], values: Sequence[float]) -> Tensor:
    """A row's value for each of its paths: float64 (sum of P,)."""
    counts = torch.tensor([row.params.paths for row in rows])
    return torch.tensor(values, dtype=torch.float64).repeat_interleave(counts)


def _failed(row: FlowRow) -> Output:
    return StepOutput(None, FinishReason.ERROR, row.params.step_cost)
