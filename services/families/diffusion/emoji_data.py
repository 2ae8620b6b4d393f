"""Owns the emoji as training data: from the package's files to pictures with captions, and back from a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.families.diffusion.emoji_colours import recolour
from services.families.diffusion.emoji_selection import (
    CHOSEN,
    COLOURED,
    HELD_OUT,
    PALETTE,
    RECOLOURED,
    RENAMED,
    SUBCATEGORIES,
)
from services.nn.images import on_white

SIZE = 32  # pixels a side
_IMAGES, _PICTURES = "images.safetensors", "pictures.json"


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of one image. `pair` is (colour, shape) of what comes in colours; `aliases` name it less well."""

    name: str
    aliases: tuple[str, ...] = ()
    pair: tuple[str, str] | None = None
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Emoji:
    """The data: `images` float32 (N, 3, 32, 32) in [-1, 1], row i being what `pictures[i]` describes."""

    pictures: tuple[Picture, ...]
    images: Tensor

    def part(self, *, held_out: bool) -> Emoji:
        """Those that are trained on, or those that are not."""
        rows = [row for row, picture in enumerate(self.pictures) if picture.held_out == held_out]
        return self.rows(rows)

    def rows(self, rows: Sequence[int]) -> Emoji:
        return Emoji(tuple(self.pictures[row] for row in rows), self.images[list(rows)])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(picture.name for picture in self.pictures)


def write_data(package: Path, folder: Path) -> None:
    """From the unpacked package to `folder`. The package's transparency is laid on white, 64 pixels become 32."""
    entries = cast(list[dict[str, Any]], json.loads((package / "emoji.json").read_text()))
    pictures: list[Picture] = []
    images: list[NDArray[np.uint8]] = []
    for picture, image in _choose(sorted(entries, key=lambda entry: entry["sort_order"]), package / "img/twitter/64"):
        pictures.append(picture)
        images.append(np.asarray(image))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32) uint8
    save_file({"images": pixels}, folder / _IMAGES)
    described = [asdict(picture) for picture in _without_ambiguous(pictures)]
    (folder / _PICTURES).write_text(json.dumps(described, indent=1) + "\n")


def read_data(folder: Path) -> Emoji:
    """What `write_data` wrote."""
    pixels = load_file(folder / _IMAGES)["images"]
    pictures = tuple(
        Picture(row["name"], tuple(row["aliases"]), tuple(row["pair"]) if row["pair"] else None, row["held_out"])
        for row in cast(list[dict[str, Any]], json.loads((folder / _PICTURES).read_text()))
    )
    return Emoji(pictures, pixels.float() / 127.5 - 1)


def _choose(entries: Sequence[dict[str, Any]], files: Path) -> Iterator[tuple[Picture, Image.Image]]:
    for entry in entries:
        name = str(entry["name"]).lower()
        large = on_white(Image.open(files / entry["image"])) if _is_chosen(entry, name) else None
        if large is None:
            continue
        if name in COLOURED:
            yield _coloured(*COLOURED[name]), _small(large)
        if name in RECOLOURED:
            for colour, rgb in PALETTE.items():
                if (colour, RECOLOURED[name]) not in COLOURED.values():
                    yield _coloured(colour, RECOLOURED[name]), _small(recolour(large, rgb))
        if name not in COLOURED and name not in RECOLOURED:
            yield Picture(CHOSEN.get(name) or RENAMED.get(name, name), (_alias(entry),)), _small(large)


def _is_chosen(entry: dict[str, Any], name: str) -> bool:
    if name in CHOSEN or name in COLOURED or name in RECOLOURED:
        return True
    left_out = SUBCATEGORIES.get(entry["subcategory"])
    return left_out is not None and name not in left_out


def _coloured(colour: str, shape: str) -> Picture:
    return Picture(f"{colour} {shape}", (shape,), (colour, shape), (colour, shape) in HELD_OUT)


def _alias(entry: dict[str, Any]) -> str:
    return re.sub(r"[^a-z0-9]+", " ", str(entry["short_name"]).lower()).strip()


def _without_ambiguous(pictures: Sequence[Picture]) -> Iterator[Picture]:
    """Leave out aliases that are, or were, another picture's name; a shape may stand for all its colours."""
    names = {picture.name for picture in pictures}
    shapes = {picture.pair[1] for picture in pictures if picture.pair}
    for picture in pictures:
        taken = names if picture.pair else names | shapes
        aliases = tuple(alias for alias in picture.aliases if alias not in taken)
        yield Picture(picture.name, aliases, picture.pair, picture.held_out)


def _small(image: Image.Image) -> Image.Image:
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
