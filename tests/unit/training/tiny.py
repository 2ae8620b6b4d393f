"""A recipe of the smallest kind: a circle of points, a two-layer network that learns to denoise them, and a critic."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from services.training.recipe import Evaluation, Figure, Licence, Package, Phase, Schedule

SCHEDULE = Schedule(steps=24, batch_size=8, warmup=4, decay="cosine", ema=0.9, validate_every=6, sample_every=12)
REFERENCE = "tests.unit.training.tiny:TinyRecipe"
KILLED = "tests.unit.training.tiny:KilledRecipe"


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Dropout(0.1), nn.Linear(16, 2))


class Circle:
    """Two phases: the denoiser on a squared error, then a critic that tells denoised points from clean ones."""

    averaged: Sequence[str] = ("denoiser",)
    phases: Sequence[Phase] = (
        Phase("denoise", ("denoiser",), 1e-2),
        Phase("judge", ("critic",), 1e-2, weight_decay=0.1),
    )

    def __init__(self, points: Tensor, seed: int) -> None:
        self._points = points  # (N, 2)
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(seed)
            self.modules: Mapping[str, nn.Module] = {"denoiser": network(), "critic": nn.Linear(2, 1)}

    @property
    def examples(self) -> int:
        return len(self._points)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Any:
        points = self._points[indices]
        return points, points + 0.3 * torch.randn(points.shape, generator=generator)

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        clean, noisy = batch
        denoised = modules["denoiser"](noisy)
        if phase == "denoise":
            return (denoised - clean).square().mean(), {"draw": float(torch.rand((), generator=generator))}
        scores = modules["critic"](clean) - modules["critic"](denoised)
        return nn.functional.softplus(-scores).mean(), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        return {"metric": error(modules["denoiser"], self._points)}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return Image.new("RGB", (8, 8), "white")


class KilledCircle(Circle):
    """Kills its process, as `kill -9` does, when it is asked for its 16th batch: between two checkpoints."""

    asked = 0

    def batch(self, indices: Tensor, generator: torch.Generator) -> Any:
        self.asked += 1
        if self.asked == 16:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(indices, generator)


class Worsening(Circle):
    """Its second validation is the best one."""

    validations = 0

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        self.validations += 1
        return {"metric": abs(self.validations - 2.0)}


def error(denoiser: nn.Module, points: Tensor) -> float:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        noisy = points + 0.3 * torch.randn(points.shape, generator=generator)
        return float((denoiser(noisy) - points).square().mean())


@dataclass(frozen=True)
class TinyRecipe:
    name: str = "tiny-circle"
    family: str = "toy"
    version: int = 1
    summary: str = "Points on a circle, denoised by two layers."
    packages: Sequence[Package] = ()
    licence: Licence = field(
        default_factory=lambda: Licence("a circle", "CC0-1.0", "Drawn by its test | of training.", "Apache-2.0")
    )
    schedule: Schedule = SCHEDULE
    max_bytes: int = 4096

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        angles = torch.arange(20) * (2 * math.pi / 20)
        save_file({"points": torch.stack([angles.cos(), angles.sin()], dim=1)}, folder / "points.safetensors")

    def build(self, data: Path, seed: int) -> Circle:
        return Circle(read_points(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"model_type": "castalia-tiny-circle"}))
        save_model(modules["denoiser"], str(folder / "model.safetensors"))

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        denoiser = network()
        load_model(denoiser, weights / "model.safetensors")
        value = error(denoiser.eval(), read_points(data))
        figure = Figure("squared error", value, "lower", 1e-4, baseline=0.09, baseline_name="the noisy points")
        return Evaluation([figure], {"circle": Image.new("RGB", (8, 8), "red")}, ["Of no use to anyone."])


class KilledRecipe(TinyRecipe):
    def build(self, data: Path, seed: int) -> Circle:
        return KilledCircle(read_points(data), seed)


def scheduled(**changes: Any) -> Schedule:
    return replace(SCHEDULE, **changes)


def read_points(data: Path) -> Tensor:
    return load_file(data / "points.safetensors")["points"]
