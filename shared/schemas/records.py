"""Owns synthetic records: rows of a table that a model draws, and the table's schema."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.schemas.common import ResponseModel, refusal
from shared.schemas.images import Seed
from shared.schemas.items import MAX_ITEMS, ItemList, ItemsCall, Value


class RecordGenerationRequest(ItemsCall):
    """`n` records. `format` csv answers in text/csv, with a header line."""

    n: int = Field(default=1, ge=1, le=MAX_ITEMS)
    format: Literal["json", "csv"] = "json"
    seed: Seed | None = None
    temperature: float | None = Field(default=None, gt=0.0, le=2.0, description="spread of the latent; 1 is as trained")

    @property
    def rows(self) -> int:
        return self.n

    @property
    def wants_table(self) -> bool:
        return self.format == "csv"

    @model_validator(mode="after")
    def _a_table_is_one_piece(self) -> RecordGenerationRequest:
        if self.stream and self.wants_table:
            raise refusal("format", "format csv is only allowed when stream is false")
        return self


class TableColumn(ResponseModel):
    """A column: numbers within [minimum, maximum], whole ones if `integer`, or one of `categories`."""

    name: str
    type: Literal["number", "integer", "category"]
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: list[str | int] | None = None


class RecordRow(ResponseModel):
    object: Literal["record"] = "record"
    index: int
    record: dict[str, Value]
    seed: int = Field(description="draws this very record again: the same request with this seed, and n of 1")


class Records(ItemList):
    columns: list[TableColumn] = Field(description="in the order of the table")
    data: list[RecordRow]
