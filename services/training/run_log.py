"""Owns what a run writes down: every figure of every step as a JSON line, and the same for TensorBoard.

A resumed run first cuts the log back to its checkpoint, so that each step is there once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image

from services.training.errors import MissingExtra

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
SHEETS = "samples"


class RunLog:
    """Figures by step (counted from 1), and sample sheets. One process of a run has one."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Go on after `step` in `folder`. Raises MissingExtra without TensorBoard's writer."""
        self._folder = folder
        (folder / SHEETS).mkdir(parents=True, exist_ok=True)
        _cut(folder / LOG, step)
        self._board = _writer(folder / "tensorboard", step)
        self._file = (folder / LOG).open("a", buffering=1)  # by lines: a kill leaves whole ones

    def figures(self, step: int, kind: str, figures: Mapping[str, float]) -> None:
        """`kind`: "train" or "validation"."""
        self._file.write(json.dumps({"step": step, "kind": kind, **figures}) + "\n")
        for name, value in figures.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def sheet(self, step: int, image: Image.Image) -> Path:
        path = self._folder / SHEETS / f"step-{step:08d}.png"
        image.save(path)
        pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        self._board.add_image("samples", pixels.view(image.height, image.width, 3), step, dataformats="HWC")
        return path

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, oldest first."""
    return [cast(dict[str, Any], json.loads(line)) for line in (folder / LOG).read_text().splitlines()]


def _cut(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept))
    partial.replace(path)


def _writer(folder: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - of the `train` extra
    except ImportError as error:
        raise MissingExtra("tensorboard") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
