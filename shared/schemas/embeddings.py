"""Owns embeddings (OpenAI's wire format): vectors of texts, images or records."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import Field

from shared.schemas.common import ResponseModel
from shared.schemas.items import MAX_ITEMS, Given, GivenItems, Item, ItemList, Items
from shared.schemas.text import TokenIdList


class EmbeddingRequest(GivenItems):
    """Token ids, one list or several, are for models of text; they are taken as they are."""

    input: (  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen, so wider is safe
        Item
        | Items
        | TokenIdList
        | Annotated[list[TokenIdList], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, le=65536, description="the first so many, where a model can")

    @property
    def items(self) -> list[Given]:
        if isinstance(self.input, list):
            return (
                [cast("list[int]", self.input)] if isinstance(self.input[0], int) else cast("list[Given]", self.input)
            )
        return [self.input]

    @property
    def rows(self) -> int:
        return len(self.items)


class Embedding(ResponseModel):
    """`embedding` as numbers, or in base64 as little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(ItemList):
    data: list[Embedding]
