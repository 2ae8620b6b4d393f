"""Owns tunes: what may be asked of a model of music, and a tune with its score, its MIDI file and its sound."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.schemas.common import ResponseModel, refusal
from shared.schemas.images import Seed
from shared.schemas.items import ItemList, ItemsCall

MAX_TUNES = 64
MAX_BARS = 256
MusicFormat = Literal["abc", "midi", "wav", "musicxml"]


class MusicGenerationRequest(ItemsCall):
    """What is left out is the model's own: of `genre` and `key` it draws one, `meter` is the genre's usual one.

    `prompt` is an opening in ABC, without header fields, in the key and metre of the tune; the model goes on from it.
    """

    genre: str | None = Field(default=None, min_length=1, max_length=64)
    key: str | None = Field(default=None, min_length=1, max_length=32, description="as in ABC's field K: G, Em, Ador")
    meter: str | None = Field(default=None, pattern=r"^[1-9][0-9]?/(1|2|4|8|16)$", description="as 4/4 or 6/8")
    bars: int = Field(default=16, ge=1, le=MAX_BARS, description="full bars, those of `prompt` included")
    tempo: int | None = Field(default=None, ge=20, le=400, description="beats a minute; a beat of 6/8 is three eighths")
    prompt: str = Field(default="", max_length=4000)
    n: int = Field(default=1, ge=1, le=MAX_TUNES)
    seed: Seed | None = None
    temperature: float | None = Field(default=None, gt=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    formats: Annotated[tuple[MusicFormat, ...], Field(min_length=1, max_length=4)] = ("abc", "midi")

    @property
    def rows(self) -> int:
        return self.n

    @model_validator(mode="after")
    def _each_format_once(self) -> MusicGenerationRequest:
        if len(set(self.formats)) < len(self.formats):
            raise refusal("formats", f"each format may be named once; got {', '.join(self.formats)}")
        return self


class Tune(ResponseModel):
    """`valid`: a parser of ABC that is not ours read it, and found the bars, metre and key that were asked for."""

    object: Literal["tune"] = "tune"
    index: int
    genre: str
    key: str
    meter: str
    bars: int
    tempo: int
    seconds: float
    valid: bool
    seed: int = Field(description="draws this very tune again: the same request with this seed, and n of 1")
    abc: str | None = Field(default=None, description="a whole tune with its header")
    midi: str | None = Field(default=None, description="a MIDI file of one track, in base64")
    wav: str | None = Field(default=None, description="16-bit mono sound, in base64")
    musicxml: str | None = None


class Tunes(ItemList):
    data: list[Tune]
