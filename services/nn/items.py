"""Owns items at the border of a family: from a request's `input` to images, and from a result to an event."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from services.nn.images import EncodedImage, Pixels, Writing, encode_image, on_white
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.embeddings import Embedding
from shared.schemas.items import GivenItems
from shared.schemas.reconstructions import ReconstructedImage


def item_event(item: BaseModel, *, tokens: int = 1, head: BaseModel | None = None) -> Item:
    """The event of a response class of `shared.schemas`, whose `index` the gateway writes; `head` is of the answer."""
    body = item.model_dump_json(exclude={"index"}).encode()
    return Item(body, tokens, b"" if head is None else head.model_dump_json().encode())


def given_param(request: GivenItems, index: int) -> str:
    """How a refusal names an item of `input`."""
    return f"input[{index}]" if isinstance(request.input, list) else "input"


def read_images(request: GivenItems, *, width: int, height: int, channels: Literal[1, 3]) -> list[Tensor]:
    """uint8 (C, H, W) of each item. Nothing is resized: that would be another image than the one asked about.

    Raises InvalidRequest: an item that is no image, one of another size.
    """
    images: list[Tensor] = []
    for index, item in enumerate(request.items):
        param = given_param(request, index)
        if not isinstance(item, str):
            got = "an object" if isinstance(item, dict) else "a list"
            raise InvalidRequest(f"'{param}' must be an image as a data: URL; got {got}.", param=param)
        images.append(read_image(item, param, width=width, height=height, channels=channels))
    return images


def read_image(url: str, param: str, *, width: int, height: int, channels: Literal[1, 3]) -> Tensor:
    """uint8 (C, H, W); what is transparent is laid on white. Raises InvalidRequest as `read_images` does."""
    encoded = EncodedImage.of(url, param)
    if encoded.size != (width, height):
        got = "x".join(map(str, encoded.size))
        raise InvalidRequest(
            f"The image in '{param}' must be {width}x{height} pixels; got {got}.", param=param, code="invalid_image"
        )
    plain = on_white(encoded.decode()).convert("L" if channels == 1 else "RGB")
    pixels = torch.from_numpy(np.array(plain))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def embedding_event(vector: Sequence[float] | Tensor, encoding: Literal["float", "base64"]) -> Item:
    """`vector` (D,): numbers, or the base64 of little-endian float32, as OpenAI's clients ask for."""
    array = np.asarray(vector, dtype="<f4")
    if encoding == "base64":
        return item_event(Embedding(index=0, embedding=base64.b64encode(array.tobytes()).decode("ascii")))
    return item_event(Embedding(index=0, embedding=[float(value) for value in array]))


def reconstructed(pixels: Pixels, writing: Writing) -> ReconstructedImage:
    """Pixels as a reconstruction holds them. Takes milliseconds: run it on a worker thread."""
    data = encode_image(pixels, writing)
    height, width = pixels.shape[:2]
    return ReconstructedImage(
        b64_json=base64.b64encode(data).decode("ascii"),
        sha256=hashlib.sha256(data).hexdigest(),
        width=width,
        height=height,
    )


def cut_dimensions(wanted: int | None, size: int) -> int:
    """How many numbers of a vector of `size` are given. Raises InvalidRequest for more than there are."""
    if wanted is not None and wanted > size:
        raise InvalidRequest(f"dimensions may be at most {size}; got {wanted}.", param="dimensions")
    return size if wanted is None else wanted
