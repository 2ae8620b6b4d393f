"""Owns the names that a family implements to have a model trained: recipes, and what the loop asks of them.

A recipe lives in its family's `train.py`, and is found by the table in `services.training.recipes`. The pipeline calls
its parts in order: the packages are collected, `preprocess` makes data, `build` makes modules and losses for the loop,
`export` writes the weights, `evaluate` measures them on held-out data beside a baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from PIL import Image
from pydantic import ConfigDict
from torch import Tensor, nn

_STRICT = ConfigDict(extra="forbid")  # of what a report holds, when it is read again


@dataclass(frozen=True, slots=True)
class Package:
    """One file of a package registry, by exact version and SHA-256. `file` is the archive's name in its registry.

    pypi: a wheel or an sdist; npm: the registry's tarball; debian: a .deb of the pool, `file` being its path below it.
    """

    __pydantic_config__: ClassVar = _STRICT

    registry: Literal["pypi", "npm", "debian"]
    name: str
    version: str
    file: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class Licence:
    """A row of the licences table."""

    data: str  # what it was trained on, with versions
    data_licence: str
    attribution: str
    weights: str  # the licence of the weights


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast. One step is one batch through every phase; early stop counts validations.

    `learning_rate` warms up linearly, then falls by a cosine to a tenth (cosine) or stays (constant).
    """

    steps: int
    batch_size: int
    warmup: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    clip: float = 1.0  # gradient norm, each phase
    ema: float = 0.999  # decay of the averaged weights, which are validated and published
    validate_every: int = 500
    sample_every: int = 500
    # Stop after so many validations without a better metric, and publish the best; 0 never stops early.
    patience: int = 0
    precision: Literal["no", "bf16"] = "no"


@dataclass(frozen=True, slots=True)
class Phase:
    """One update within a step: `modules` (names in `Training.modules`) are stepped on `loss`, others stand still."""

    name: str
    modules: Sequence[str]
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0


class Training(Protocol):
    """A run in progress: modules, data and losses. All randomness comes from the generator that is passed in.

    The loop seeds that generator by (seed, step, rank), so that a resumed run draws what the uninterrupted one would.
    """

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...
    @property
    def averaged(self) -> Sequence[str]:
        """Names of the modules whose exponential moving average is kept, validated and exported."""
        ...

    @property
    def phases(self) -> Sequence[Phase]: ...
    @property
    def examples(self) -> int:
        """How many training examples there are; the loop shuffles their indices anew each epoch."""
        ...

    def batch(self, indices: Tensor, generator: torch.Generator) -> Any:
        """The examples at `indices` (B,) int64, augmented; a tensor or a tuple of tensors on the CPU."""
        ...

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """The scalar loss of a phase through `modules` (wrapped as the loop needs them), and figures for the log."""
        ...

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Figures of the averaged modules; `metric` is the one that is to fall.

        It is of held-out data, unless the model is to learn its training data by heart.
        """
        ...

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        """A sheet of samples to look at on the way."""
        ...


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a report: a metric, what it is compared with, and which way is better.

    `tolerance`: how far another machine's evaluation may be from `value`.
    """

    __pydantic_config__: ClassVar = _STRICT

    name: str
    value: float
    better: Literal["higher", "lower"]
    tolerance: float
    baseline: float | None = None
    baseline_name: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What evaluating a folder of weights gives. `sheets`: file stem to picture, shown in the card in this order."""

    figures: Sequence[Figure]
    sheets: Mapping[str, Image.Image] = field(default_factory=dict[str, Image.Image])
    notes: Sequence[str] = ()


class Recipe(Protocol):
    """How one published model is made."""

    @property
    def name(self) -> str:
        """The model's name: of its weights' folder, of `builtin://NAME`, of `castalia train NAME`."""
        ...

    @property
    def family(self) -> str: ...
    @property
    def version(self) -> int:
        """Raised when `preprocess` would write other data."""
        ...

    @property
    def summary(self) -> str:
        """What the model does, its shape and its paper: the head of its card, in Markdown."""
        ...

    @property
    def packages(self) -> Sequence[Package]: ...
    @property
    def licence(self) -> Licence: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def max_bytes(self) -> int:
        """The budget of the published weights."""
        ...

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        """From unpacked packages (by name) to data files in the empty `folder`. Deterministic."""
        ...

    def build(self, data: Path, seed: int) -> Training:
        """Modules with fresh weights drawn from `seed`, and the data that `preprocess` wrote."""
        ...

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """Write config.json and model.safetensors (half precision) of the averaged modules into the empty `folder`."""
        ...

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        """Measure exported weights on held-out data, loading them as serving does. Deterministic, minutes at most."""
        ...
