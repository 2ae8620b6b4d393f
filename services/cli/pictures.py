"""Owns reading images from a stream: each is whole, or the answer is refused."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from services.cli.client import Client
from services.cli.context import CliError


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file, or a preview of one. `index` tells the images of a request apart; `step` of `steps` were taken."""

    data: bytes
    index: int
    step: int
    steps: int
    seed: int
    is_preview: bool

    @property
    def sha256(self) -> str:
        """Of the file's bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def draw(client: Client, body: Mapping[str, object]) -> Generator[Picture]:
    """Stream POST /v1/images/generations. Raises CliError if the stream breaks off or an image is damaged."""
    for event in client.events("/v1/images/generations", {**body, "stream": True}):
        try:
            picture = _picture(event)
        except (KeyError, TypeError, ValueError) as error:
            raise CliError(f"the stream holds what is no image: {type(error).__name__}") from error
        if "sha256" in event and event["sha256"] != picture.sha256:
            raise CliError("an image was damaged on its way: its content hash differs")
        yield picture


def _picture(event: Mapping[str, Any]) -> Picture:
    return Picture(
        data=base64.b64decode(event["b64_json"], validate=True),
        index=int(event["index"]),
        step=int(event.get("step", event["steps"])),
        steps=int(event["steps"]),
        seed=int(event["seed"]),
        is_preview=str(event["type"]).endswith(".partial_image"),
    )
