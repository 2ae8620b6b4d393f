"""Owns game levels: grids of tiles that a model draws, as text and as a picture, with a verdict of a solver."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.schemas.common import ResponseModel
from shared.schemas.images import Seed
from shared.schemas.items import ItemList, ItemsCall

MAX_LEVELS = 128
MAX_ATTEMPTS = 64


class LevelGenerationRequest(ItemsCall):
    """`attempts`: how often a level that is not well-formed is drawn anew before it is given as it is."""

    n: int = Field(default=1, ge=1, le=MAX_LEVELS)
    seed: Seed | None = None
    temperature: float | None = Field(default=None, gt=0.0, le=2.0, description="of the tiles' distribution")
    attempts: int = Field(default=8, ge=1, le=MAX_ATTEMPTS)

    @property
    def rows(self) -> int:
        return self.n


class Level(ResponseModel):
    """`playable`: a solver found a solution (true), showed that there is none (false), or gave up (unknown)."""

    object: Literal["level"] = "level"
    index: int
    text: str = Field(description="a line a row; # wall, @ player, $ box, . goal, * box on goal, + player on goal")
    width: int
    height: int
    well_formed: bool = Field(description="closed by walls, one player, as many boxes as goals")
    playable: Literal["true", "false", "unknown"]
    solution: str | None = Field(default=None, description="moves l, u, r, d; pushes L, U, R, D")
    attempts: int
    seed: int = Field(description="draws this very level again: the same request with this seed, and n of 1")
    b64_json: str = Field(description="a PNG picture of the level, in base64")


class Levels(ItemList):
    data: list[Level]
