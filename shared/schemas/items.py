"""Owns what operations on many things of one kind share: what is given, how many at most, and the list that answers.

A thing is an image (a `data:` URL), a record (an object of columns), or a text. Which of them a model takes is its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.schemas.common import RequestModel, ResponseModel

MAX_ITEMS = 10_000
MAX_COLUMNS = 256

Value = str | float | int | bool | None
# The body bounds a text (CASTALIA_MAX_IMAGE_BODY), the model service an image's bytes and pixels.
Text = Annotated[str, Field(min_length=1, description="an image as a data: URL in base64, or a text")]
Record = Annotated[
    dict[Annotated[str, Field(max_length=128)], Value],
    Field(min_length=1, max_length=MAX_COLUMNS, description="a row of a table, by column"),
]
Item = Text | Record
Items = Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
Given = str | dict[str, Value] | list[int]  # token ids, where an operation takes them


class ItemsCall(RequestModel):
    """A request whose answer is a list. `stream` gives it as lines of JSON, each as soon as it is there."""

    model: str = Field(min_length=1, max_length=256)
    stream: bool = Field(default=False, description="answer in application/x-ndjson: a line for each item of `data`")
    user: str | None = Field(default=None, max_length=512)

    @property
    def rows(self) -> int:
        """How many items the answer holds."""
        raise NotImplementedError

    @property
    def wants_table(self) -> bool:
        """Whether the answer is to be CSV."""
        return False


class GivenItems(ItemsCall):
    """A request about given things."""

    input: Item | Items

    @property
    def items(self) -> list[Given]:
        return list(self.input) if isinstance(self.input, list) else [self.input]

    @property
    def rows(self) -> int:
        return len(self.input) if isinstance(self.input, list) else 1


class ItemsUsage(ResponseModel):
    """`prompt_tokens` counts what was read: tokens of a text, and one for an image, a record or a series."""

    prompt_tokens: int
    total_tokens: int
    units: float = Field(description="the model's own units of work, such as passes or sweeps")


class ItemList(ResponseModel):
    """What every list's answer has beside `data`, whose items are in the order of the input."""

    object: Literal["list"]
    created: int
    model: str
    usage: ItemsUsage


class ItemsEnd(ResponseModel):
    """The last line of a streamed list: an answer without it is not complete."""

    object: Literal["list.end"]
    created: int
    model: str
    usage: ItemsUsage
