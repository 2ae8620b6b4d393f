"""Owns embeddings (OpenAI's wire format): vectors of texts, images or records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.schemas.common import ResponseModel
from shared.schemas.items import GivenItems, ItemList


class EmbeddingRequest(GivenItems):
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, le=65536, description="the first so many, where a model can")


class Embedding(ResponseModel):
    """`embedding` as numbers, or in base64 as little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(ItemList):
    data: list[Embedding]
