"""Owns the solving of Sokoban levels: a search over pushes, bounded by how many positions it looks into.

Sets of cells are integers, a bit a cell, so that one shift moves them all. The search is the same each time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from services.families.pixelcnn.params import Values
from services.families.pixelcnn.sokoban import Tile, boxes_of, goals_of, is_well_formed, players_of

Verdict = Literal["true", "false", "unknown"]

_WEIGHT = 10  # of the distance to go against the pushes made: some solution soon, rather than the shortest late


@dataclass(frozen=True, slots=True)
class Solved:
    """What a search found. `moves`: l, u, r, d; pushes L, U, R, D. `nodes`: positions that were looked into."""

    verdict: Verdict
    moves: str | None
    nodes: int


@dataclass(frozen=True, slots=True)
class _Push:
    """A box at `cell` is pushed in direction `name`, from the position with the key `before`."""

    before: tuple[int, int]
    cell: int
    name: str


@dataclass(frozen=True)
class Board:
    """What of a level never changes: cells numbered row by row over a rectangle whose rim is walls or nothing."""

    width: int
    floor: int  # what the player can walk to, boxes aside
    goals: int

    @cached_property
    def steps(self) -> Mapping[str, int]:
        """By how much each direction changes a cell's number."""
        return {"l": -1, "u": -self.width, "r": 1, "d": self.width}

    @cached_property
    def distances(self) -> Mapping[int, int]:
        """By cell, the pushes that a box takes to the nearest goal with no other box in its way.

        A cell without any is dead: no box that comes there can be brought to a goal.
        """
        found = dict.fromkeys(_cells(self.goals), 0)
        waiting = list(found)
        for cell in waiting:  # pull boxes from the goals
            for step in self.steps.values():
                box, player = cell - step, cell - 2 * step
                if box not in found and self._is_floor(box) and self._is_floor(player):
                    found[box] = found[cell] + 1
                    waiting.append(box)
        return found

    @cached_property
    def alive(self) -> int:
        return sum(1 << cell for cell in self.distances)

    def _is_floor(self, cell: int) -> bool:
        return cell >= 0 and bool(self.floor >> cell & 1)

    def reach(self, player: int, boxes: int) -> int:
        """Where the player can walk from a cell."""
        free = self.floor & ~boxes
        reached, before = 1 << player, 0
        while reached != before:
            before = reached
            reached |= (reached << 1 | reached >> 1 | reached << self.width | reached >> self.width) & free
        return reached

    def pushes(self, boxes: int, reached: int) -> Iterator[tuple[str, int]]:
        """Direction and box of every push onto a free cell that is not dead."""
        open_cells = self.alive & ~boxes
        for name, step in self.steps.items():
            behind = _shifted(reached, step)  # cells with the player on their near side
            for cell in _cells(boxes & behind & _shifted(open_cells, -step)):
                yield name, cell

    def is_stuck(self, boxes: int, cell: int) -> bool:
        """Whether the box at `cell` can never move again, nor some box with it, and one of them is on no goal."""
        return bool(self._frozen(boxes, cell, 0) & ~self.goals)

    def _frozen(self, boxes: int, cell: int, fixed: int) -> int:
        """The boxes that hold each other in place with the one at `cell`, it among them; 0 if it can move.

        It cannot where on either axis it has a wall, or such a box, or nothing but dead cells to go to. `fixed` are
        boxes that count as walls: those on whose account this one is looked at.
        """
        fixed |= 1 << cell
        group = 1 << cell
        for step in (1, self.width):
            sides = (cell - step, cell + step)
            if any(not self._is_floor(side) or fixed >> side & 1 for side in sides):
                continue
            if not any(self.alive >> side & 1 for side in sides):
                continue
            held = next((more for side in sides if boxes >> side & 1 and (more := self._frozen(boxes, side, fixed))), 0)
            if not held:
                return 0
            group |= held
        return group


def solve(level: Values, max_nodes: int) -> Solved:
    """Look for a solution of a level by weighted A*; `max_nodes` positions at most.

    A level that is not well-formed has none. Deterministic: the same level and bound give the same solution.
    """
    if not is_well_formed(level):
        return Solved("false", None, 0)
    board, boxes, player = _read(level)
    if boxes & ~board.alive or any(board.is_stuck(boxes, cell) for cell in _cells(boxes)):
        return Solved("false", None, 0)
    start = (boxes, _first(board.reach(player, boxes)))
    came: dict[tuple[int, int], _Push | None] = {start: None}
    left = sum(board.distances[cell] for cell in _cells(boxes))
    queue = [(_WEIGHT * left, 0, 0, left, start)]  # priority, order of entry, pushes, distance to go, position
    nodes = entered = 0
    while queue:
        _, _, made, left, key = heapq.heappop(queue)
        if not key[0] & ~board.goals:
            return Solved("true", _moves(board, _line(came, key), boxes, player), nodes)
        if nodes == max_nodes:
            return Solved("unknown", None, nodes)
        nodes += 1
        for after, push, nearer in _followers(board, key):
            if after not in came:
                came[after] = push
                entered += 1
                togo = left - nearer
                heapq.heappush(queue, (made + 1 + _WEIGHT * togo, entered, made + 1, togo, after))
    return Solved("false", None, nodes)


def _followers(board: Board, key: tuple[int, int]) -> Iterator[tuple[tuple[int, int], _Push, int]]:
    """Every position that a push leads to, the push, and by how much its box is nearer to a goal."""
    boxes, player = key
    reached = board.reach(player, boxes)
    for name, cell in board.pushes(boxes, reached):
        target = cell + board.steps[name]
        moved = boxes ^ (1 << cell | 1 << target)
        if not board.is_stuck(moved, target):
            after = (moved, _first(board.reach(cell, moved)))
            yield after, _Push(key, cell, name), board.distances[cell] - board.distances[target]


def _read(level: Values) -> tuple[Board, int, int]:
    """The board, the boxes and the player's cell of a well-formed level, which no cell at its edge is part of."""
    width = level.shape[1]
    floor = sum(1 << i for i, tile in enumerate(level.flatten().tolist()) if tile not in (Tile.WALL, Tile.OUTSIDE))
    (player,) = players_of(level)
    number = player[0] * width + player[1]
    inside = Board(width, floor, 0).reach(number, 0)
    goals, boxes = (sum(1 << row * width + column for row, column in of(level)) for of in (goals_of, boxes_of))
    return Board(width, inside, goals), boxes, number


def _line(came: Mapping[tuple[int, int], _Push | None], key: tuple[int, int]) -> list[_Push]:
    """The pushes that led to a position, first to last."""
    line: list[_Push] = []
    while (push := came[key]) is not None:
        line.append(push)
        key = push.before
    return line[::-1]


def _moves(board: Board, line: Sequence[_Push], boxes: int, player: int) -> str:
    """The walks between the pushes, and the pushes."""
    moves: list[str] = []
    for push in line:
        step = board.steps[push.name]
        moves += (_walk(board, player, push.cell - step, boxes), push.name.upper())
        boxes ^= 1 << push.cell | 1 << push.cell + step
        player = push.cell
    return "".join(moves)


def _walk(board: Board, start: int, end: int, boxes: int) -> str:
    """A shortest way between two cells that the boxes leave open."""
    ways, waiting = {start: ""}, [start]
    for cell in waiting:
        if cell == end:
            break
        for name, step in board.steps.items():
            beside = cell + step
            if beside not in ways and (board.floor & ~boxes) >> beside & 1:
                ways[beside] = ways[cell] + name
                waiting.append(beside)
    return ways[end]


def _cells(cells: int) -> Iterator[int]:
    while cells:
        yield _first(cells)
        cells &= cells - 1


def _first(cells: int) -> int:
    """The lowest cell's number."""
    return (cells & -cells).bit_length() - 1


def _shifted(cells: int, step: int) -> int:
    return cells << step if step > 0 else cells >> -step
