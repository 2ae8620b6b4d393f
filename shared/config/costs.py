"""Owns how many rows a request has: what the cost of a model whose rows are alike is counted by."""

from __future__ import annotations

from pydantic import BaseModel

from shared.schemas.audio import AudioGenerationRequest
from shared.schemas.images import ImageSampling
from shared.schemas.items import ItemsCall


def rows_of(body: BaseModel) -> int:
    """Images, frames, sounds, or items of a list; one of any other request."""
    if isinstance(body, ImageSampling):
        return body.images
    if isinstance(body, AudioGenerationRequest):
        return body.n
    return body.rows if isinstance(body, ItemsCall) else 1
