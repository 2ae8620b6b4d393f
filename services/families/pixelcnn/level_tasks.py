"""Owns what clients may ask of a model of levels: new ones, drawn anew until well-formed, with a solver's verdict."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import ClassVar

from services.families.pixelcnn.level_drawing import draw_level
from services.families.pixelcnn.params import LevelParams, Values
from services.families.pixelcnn.sokoban import cropped, is_well_formed, level_text
from services.families.pixelcnn.sokoban_solver import solve
from services.nn.items import item_event
from services.nn.rng import image_seed
from shared.events import Item
from shared.schemas.levels import Level, LevelGenerationRequest


@dataclass(frozen=True, slots=True, eq=False)
class LevelChunk:
    """A drawn level, tiles int64 (H, W) over the whole canvas, and in which attempt it was drawn."""

    level: Values
    well_formed: bool
    attempts: int
    seed: int


class LevelFinish:
    """Implements `services.families.pixelcnn.sampler.Finish`: what is not well-formed is drawn anew, or given as it is.

    Nothing is mended: a level is as the model drew it.
    """

    def whole(self, params: LevelParams, values: Values, attempt: int) -> LevelChunk | None:
        well_formed = is_well_formed(values)
        if not well_formed and attempt < params.attempts:
            return None
        return LevelChunk(values, well_formed, attempt, params.seed)

    def preview(self, params: LevelParams, values: Values, rows: int) -> None:
        """A list's items come whole."""


@dataclass(frozen=True, slots=True)
class LevelTask:
    """`n` levels on a canvas of `height` rows; a step draws a row of tiles. `max_nodes` bounds the solver.

    `temperature` is that of a request which leaves it out.
    """

    encodes_slowly: ClassVar[bool] = True  # the solver takes up to a second

    height: int
    temperature: float
    max_nodes: int

    def prepare(self, request: LevelGenerationRequest, salt: str = "") -> list[LevelParams]:
        temperature = self.temperature if request.temperature is None else request.temperature
        seeds = [image_seed(request.seed, i) for i in range(request.n)]
        return [LevelParams(seed, temperature, request.attempts, self.height) for seed in seeds]

    def encode(self, chunk: LevelChunk) -> Item:
        """Crop, draw and solve it. A level that is not well-formed is not playable."""
        level = cropped(chunk.level)
        found = solve(chunk.level, self.max_nodes)
        picture = io.BytesIO()
        draw_level(level).save(picture, "PNG")
        shown = Level(
            index=0,
            text=level_text(level),
            width=level.shape[1],
            height=level.shape[0],
            well_formed=chunk.well_formed,
            playable=found.verdict,
            solution=found.moves,
            attempts=chunk.attempts,
            seed=chunk.seed,
            b64_json=base64.b64encode(picture.getvalue()).decode("ascii"),
        )
        return item_event(shown, tokens=0)
