"""Owns Sokoban's levels: what tiles there are, levels as text, and which of them are well-formed.

A level is an array int64 (H, W) of tiles. As text it is in the usual form, a character a tile, where the ground inside
of the walls and what is outside of them look alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np

from services.families.pixelcnn.params import Values

Cell = tuple[int, int]  # (row, column)


class Tile(IntEnum):
    """What a cell holds; the numbers are the model's values."""

    OUTSIDE = 0
    FLOOR = 1
    WALL = 2
    GOAL = 3
    BOX = 4
    BOX_ON_GOAL = 5
    PLAYER = 6
    PLAYER_ON_GOAL = 7


_TEXT = "  #.$*@+"  # by tile
_TILES = {character: Tile(number) for number, character in enumerate(_TEXT) if character != " "}
_PLAYERS, _BOXES = (Tile.PLAYER, Tile.PLAYER_ON_GOAL), (Tile.BOX, Tile.BOX_ON_GOAL)
_GOALS = (Tile.GOAL, Tile.BOX_ON_GOAL, Tile.PLAYER_ON_GOAL)


_STEPS = {"l": (0, -1), "u": (-1, 0), "r": (0, 1), "d": (1, 0)}
_ON_GOAL = {Tile.FLOOR: Tile.GOAL, Tile.BOX: Tile.BOX_ON_GOAL, Tile.PLAYER: Tile.PLAYER_ON_GOAL}


class NoLevel(ValueError):
    """The text is no level. The message says why."""


class NoMove(ValueError):
    """The rules do not let the player go there."""


def parse_level(text: str) -> Values:
    """The level of a text, as large as the text. What the player cannot walk to, boxes aside, is outside.

    Raises NoLevel for a character that is no tile, and for no player or more than one.
    """
    lines = [line.rstrip() for line in text.splitlines()]
    width = max(map(len, lines), default=0)
    level = np.full((len(lines), width), Tile.OUTSIDE, np.int64)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            if character not in _TEXT:
                raise NoLevel(f"{character!r} is no tile")
            level[row, column] = _TILES.get(character, Tile.OUTSIDE)
    players = cells_of(level, *_PLAYERS)
    if len(players) != 1:
        raise NoLevel(f"it has {len(players)} players")
    for cell in walkable_from(level, players[0]):
        if level[cell] == Tile.OUTSIDE:
            level[cell] = Tile.FLOOR
    return level


def level_text(level: Values) -> str:
    """A line a row, each as wide as the level."""
    return "\n".join("".join(_TEXT[tile] for tile in row) for row in level.tolist())


def cells_of(level: Values, *tiles: Tile) -> list[Cell]:
    """Where these tiles are, in reading order."""
    return [(row, column) for row, column in np.argwhere(np.isin(level, tiles)).tolist()]


def boxes_of(level: Values) -> list[Cell]:
    return cells_of(level, *_BOXES)


def goals_of(level: Values) -> list[Cell]:
    return cells_of(level, *_GOALS)


def players_of(level: Values) -> list[Cell]:
    return cells_of(level, *_PLAYERS)


def walkable_from(level: Values, start: Cell) -> set[Cell]:
    """All cells that no wall keeps the player from: boxes count as floor. May hold cells outside of the walls."""
    found, waiting = {start}, [start]
    while waiting:
        for cell in neighbours(waiting.pop(), level.shape):
            if cell not in found and level[cell] != Tile.WALL:
                found.add(cell)
                waiting.append(cell)
    return found


def neighbours(cell: Cell, shape: tuple[int, ...]) -> Iterator[Cell]:
    """The cells beside it that are on the canvas."""
    row, column = cell
    for a, b in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
        if 0 <= a < shape[0] and 0 <= b < shape[1]:
            yield a, b


def moved(level: Values, name: str) -> Values:
    """The level after one move, l, u, r or d in either case, with the push that it makes. Raises NoMove."""
    (player,) = players_of(level)
    after = level.copy()
    by = _STEPS[name.lower()]
    target, beyond = ((player[0] + by[0] * far, player[1] + by[1] * far) for far in (1, 2))
    if level[target] in _BOXES:
        if level[beyond] not in (Tile.FLOOR, Tile.GOAL):
            raise NoMove(f"the box at {target} cannot go to {beyond}")
        _put(after, target, Tile.FLOOR)
        _put(after, beyond, Tile.BOX)
    elif level[target] not in (Tile.FLOOR, Tile.GOAL):
        raise NoMove(f"the player at {player} cannot go to {target}")
    _put(after, player, Tile.FLOOR)
    _put(after, target, Tile.PLAYER)
    return after


def _put(level: Values, cell: Cell, tile: Tile) -> None:
    """Floor, a box or the player in place of what is there; a goal below it stays."""
    level[cell] = _ON_GOAL[tile] if level[cell] in _GOALS else tile


def is_solved(level: Values) -> bool:
    return set(boxes_of(level)) == set(goals_of(level))


def is_well_formed(level: Values) -> bool:
    """One player, closed in by walls together with every box and goal; as many boxes as goals, one not yet on its own.

    Closed: what the player can walk to, boxes aside, is neither outside nor at the canvas's edge.
    """
    players, boxes, goals = players_of(level), boxes_of(level), goals_of(level)
    if len(players) != 1 or len(boxes) != len(goals) or is_solved(level):
        return False
    inside = walkable_from(level, players[0])
    height, width = level.shape
    if any(row in (0, height - 1) or column in (0, width - 1) for row, column in inside):
        return False
    return all(level[cell] != Tile.OUTSIDE for cell in inside) and inside.issuperset(boxes + goals)


def cropped(level: Values) -> Values:
    """The smallest rectangle with all tiles that can be seen in text; a level of none stays one cell."""
    seen = ~np.isin(level, (Tile.OUTSIDE, Tile.FLOOR))
    if not seen.any():
        return level[:1, :1]
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return level[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def symmetries(level: Values) -> list[Values]:
    """The eight turns and mirrorings of a rectangle of tiles."""
    return [np.rot90(each, turns) for each in (level, np.fliplr(level)) for turns in range(4)]


def canonical(level: Values) -> str:
    """The same text for a level and all that are like it but for place, turning and mirroring."""
    return min(level_text(each) for each in symmetries(cropped(level)))
