"""Owns the levels that a model of them learns: from an unpacked package to grids, and from those to examples.

The published solution of a level gives more levels of the same walls: every position on its way can be solved too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.families.pixelcnn.params import Values
from services.families.pixelcnn.sokoban import (
    Tile,
    boxes_of,
    is_solved,
    is_well_formed,
    level_text,
    moved,
    parse_level,
    symmetries,
)

SAMPLE = "held_out.json"
SETS = ("gri", "mgerhardy", "xsokoban")  # public domain, by maps/README.maps; the others are not
_FILE = "levels.safetensors"
_HELD_OUT_EVERY = 10
_POSITIONS = 24  # of a level at most, its beginning the first
_PART = 0.75  # of a solution: what comes later is nearly solved
_TIMES = re.compile(r"(\d+)(?:([a-z])|\(([a-z]*)\))")
_LINE = re.compile(r"[ #@$.*+]*#[ #@$.*+]*")  # the other lines of a file name the level and its author


@dataclass(frozen=True, slots=True)
class LevelSet:
    """Of each level its positions uint8 (P, h, w), the beginning first; w and h are the level's own."""

    levels: Sequence[Tensor]

    @property
    def beginnings(self) -> list[Values]:
        return [positions[0].long().numpy() for positions in self.levels]


@dataclass(frozen=True, slots=True)
class LevelSplit:
    train: LevelSet
    held_out: LevelSet


def read_levels(package: Path, side: int) -> list[Tensor]:
    """The levels that fit a canvas of side x side, each with positions of its solution, in the order of their names."""
    maps = package / "usr" / "share" / "games" / "cavepacker" / "maps"
    found: list[Tensor] = []
    for path in sorted(path for name in SETS for path in maps.glob(f"{name}*.sok")):
        lines = [line.rstrip() for line in path.read_text(encoding="latin-1").splitlines()]
        level = parse_level("\n".join(line for line in lines if _LINE.fullmatch(line)))
        if max(level.shape) <= side and is_well_formed(level):
            moves = read_solution(path.with_suffix(".sol").read_text())
            found.append(torch.from_numpy(np.stack(positions(level, moves))).to(torch.uint8))
    return found


def read_solution(text: str) -> str:
    """Moves in full, of the package's short form: 3r is rrr, and 2(r2d) is rddrdd."""
    short, moves = "", text.strip()
    while moves != short:
        short, moves = moves, _TIMES.sub(lambda found: int(found[1]) * (found[2] or found[3]), moves)
    return moves


def positions(level: Values, moves: str) -> list[Values]:
    """The beginning, and positions after pushes spread evenly over the first part of a solution; none is solved."""
    pushed, now = [level], level
    for name in moves:
        before, now = now, moved(now, name)
        if boxes_of(before) != boxes_of(now):
            pushed.append(now)
    last = int(_PART * (len(pushed) - 1))
    chosen = sorted({round(i) for i in np.linspace(0, last, min(_POSITIONS, last + 1))})
    return [pushed[i] for i in chosen if not is_solved(pushed[i])]


def write_levels(folder: Path, levels: Sequence[Tensor]) -> None:
    """Hold out every tenth level with all its positions, and write both parts."""
    parts: dict[str, Tensor] = {}
    for name, wanted in (("train", False), ("held_out", True)):
        chosen = [each for i, each in enumerate(levels) if (i % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1) == wanted]
        parts[f"{name}.shapes"] = torch.tensor([each.shape for each in chosen])
        parts[f"{name}.tiles"] = torch.cat([each.flatten() for each in chosen])
    save_file(parts, folder / _FILE)


def read_split(folder: Path) -> LevelSplit:
    parts = load_file(folder / _FILE)
    sets: list[LevelSet] = []
    for name in ("train", "held_out"):
        shapes = parts[f"{name}.shapes"].tolist()
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
        tiles = parts[f"{name}.tiles"]
        sets.append(LevelSet([tiles[a:b].view(shape) for (a, b), shape in zip(pairwise(ends), shapes, strict=True)]))
    return LevelSplit(*sets)


def write_sample(levels: LevelSet, folder: Path) -> None:
    """held_out.json: the beginnings of the held-out levels, as text."""
    texts = [level_text(level) for level in levels.beginnings]
    (folder / SAMPLE).write_text(json.dumps(texts, indent=1) + "\n")


def read_sample(folder: Path) -> list[Values]:
    return [parse_level(text) for text in json.loads((folder / SAMPLE).read_text())]


def placed(level: Values, shape: tuple[int, int], at: tuple[int, int]) -> Values:
    """The level on a canvas of `shape` whose other cells are outside, its corner at (row, column)."""
    canvas = np.full(shape, Tile.OUTSIDE, np.int64)
    canvas[at[0] : at[0] + level.shape[0], at[1] : at[1] + level.shape[1]] = level
    return canvas


def centred(level: Values, shape: tuple[int, int]) -> Values:
    height, width = level.shape
    return placed(level, shape, ((shape[0] - height) // 2, (shape[1] - width) // 2))


def example(positions: Tensor, side: int, generator: torch.Generator) -> Values:
    """A position of a level, turned or mirrored, anywhere on a canvas of side x side."""

    def draw(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    level = symmetries(positions[draw(len(positions))].long().numpy())[draw(8)]
    height, width = level.shape
    return placed(level, (side, side), (draw(side - height + 1), draw(side - width + 1)))
