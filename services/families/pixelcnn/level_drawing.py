"""Owns the picture of a level: flat tiles, drawn from shapes alone. Never sees a model."""

from __future__ import annotations

from PIL import Image, ImageDraw

from services.families.pixelcnn.params import Values
from services.families.pixelcnn.sokoban import Tile

SIDE = 16  # screen pixels a tile

_GROUND, _OUTSIDE = "#ece4d4", "#2b2f3a"
_WALL, _SHADE, _MORTAR = "#7d8597", "#5c6378", "#3f4456"
_GOAL = "#c4453c"
_BOX, _BOX_EDGE, _HOME, _HOME_EDGE = "#c98f4a", "#7f5523", "#6fa554", "#3f6a2c"
_PLAYER, _EYES = "#2f6fb0", "#ffffff"


def draw_level(level: Values) -> Image.Image:
    """RGB, SIDE pixels a tile."""
    height, width = level.shape
    picture = Image.new("RGB", (width * SIDE, height * SIDE), _OUTSIDE)
    pen = ImageDraw.Draw(picture)
    for row, tiles in enumerate(level.tolist()):
        for column, number in enumerate(tiles):
            _draw_tile(pen, column * SIDE, row * SIDE, Tile(number))
    return picture


def _draw_tile(pen: ImageDraw.ImageDraw, x: int, y: int, tile: Tile) -> None:
    if tile is Tile.OUTSIDE:
        return
    if tile is Tile.WALL:
        _draw_wall(pen, x, y)
        return
    pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), _GROUND)
    match tile:
        case Tile.GOAL:
            _draw_goal(pen, x, y)
        case Tile.BOX:
            _draw_box(pen, x, y, _BOX, _BOX_EDGE)
        case Tile.BOX_ON_GOAL:
            _draw_box(pen, x, y, _HOME, _HOME_EDGE)
        case Tile.PLAYER:
            _draw_player(pen, x, y)
        case Tile.PLAYER_ON_GOAL:
            _draw_goal(pen, x, y)
            _draw_player(pen, x, y)
        case _:
            pass  # floor is the ground alone


def _draw_wall(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """Two courses of bricks."""
    pen.rectangle((x, y, x + 15, y + 15), _MORTAR)
    for left, top, right in ((0, 0, 6), (8, 0, 14), (0, 8, 2), (4, 8, 10), (12, 8, 14)):
        pen.rectangle((x + left, y + top, x + right, y + top + 6), _WALL)
        pen.line((x + left, y + top + 6, x + right, y + top + 6), _SHADE)


def _draw_goal(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.polygon([(x + 8, y + 2), (x + 14, y + 8), (x + 8, y + 14), (x + 2, y + 8)], outline=_GOAL, width=2)


def _draw_box(pen: ImageDraw.ImageDraw, x: int, y: int, face: str, edge: str) -> None:
    pen.rectangle((x + 1, y + 1, x + 14, y + 14), face, edge, 2)
    pen.line((x + 3, y + 3, x + 12, y + 12), edge)
    pen.line((x + 12, y + 3, x + 3, y + 12), edge)


def _draw_player(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.ellipse((x + 3, y + 3, x + 12, y + 12), _PLAYER)
    for eye in (5, 9):
        pen.rectangle((x + eye, y + 6, x + eye + 1, y + 7), _EYES)
