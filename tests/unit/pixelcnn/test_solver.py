"""The solver: levels made by hand, whose answer is known, and solutions that are played."""

from __future__ import annotations

import numpy as np
import pytest

from services.families.pixelcnn.level_data import placed
from services.families.pixelcnn.sokoban import Tile, boxes_of, is_solved, moved, symmetries
from services.families.pixelcnn.sokoban_solver import solve
from tests.unit.pixelcnn.tiny import EASY, level

SOLVABLE = {
    "a push": EASY,
    "around a corner": level(
        "######",
        "#  . #",
        "# $  #",
        "#@   #",
        "######",
    ),
    "the near goal first shuts the far one": level(
        "#########",
        "#   #####",
        "#@$ $ ..#",
        "#   #####",
        "#########",
    ),
    "the first level of XSokoban in small": level(
        "  #####  ",
        "###   #  ",
        "#.@$  #  ",
        "### $.#  ",
        "#.##$ #  ",
        "# # . ## ",
        "#$ *$$.# ",
        "#   .  # ",
        "######## ",
    ),
    "four boxes": level(
        "########",
        "#  ..  #",
        "# $..$ #",
        "#  $$  #",
        "#  @   #",
        "########",
    ),
}

UNSOLVABLE = {
    "a box in a corner": level(
        "######",
        "#$  .#",
        "#  @ #",
        "######",
    ),
    "a box along a wall without a goal": level(
        "#######",
        "# $   #",
        "#  @ .#",
        "#     #",
        "#######",
    ),
    "four boxes in a square": level(
        "########",
        "#....  #",
        "#  $$  #",
        "#  $$ @#",
        "#      #",
        "########",
    ),
    "a box that only moves away from its goal": level(
        "#########",
        "#. @$   #",
        "#########",
    ),
    "a corridor where each box bars the other": level(
        "#########",
        "#.@$ $ .#",
        "#########",
    ),
}


def play(start: np.ndarray, moves: str) -> np.ndarray:
    """By the rules alone; a capital letter must push a box, a small one must not."""
    now = start
    for name in moves:
        before, now = now, moved(now, name)
        assert (boxes_of(before) != boxes_of(now)) == name.isupper()
    return now


@pytest.mark.parametrize("name", SOLVABLE)
def test_a_solution_replays_to_a_solved_level(name: str) -> None:
    start = SOLVABLE[name]
    found = solve(start, 20_000)
    assert found.verdict == "true"
    assert found.moves
    assert is_solved(play(start, found.moves))


@pytest.mark.parametrize("name", UNSOLVABLE)
def test_a_level_without_a_solution_is_shown_to_have_none(name: str) -> None:
    found = solve(UNSOLVABLE[name], 20_000)
    assert (found.verdict, found.moves) == ("false", None)


def test_boxes_that_hold_each_other_against_a_wall_are_seen_at_once() -> None:
    """Each could be brought to the goal on that wall, were the other not beside it."""
    start = level(
        "########",
        "# $$ . #",
        "#      #",
        "#@   . #",
        "########",
    )
    assert (solve(start, 20_000).verdict, solve(start, 20_000).nodes) == ("false", 0)
    apart = level(
        "########",
        "# $  . #",
        "#  $   #",
        "#@   . #",
        "########",
    )
    assert solve(apart, 20_000).verdict == "true"


def test_a_turned_level_has_the_same_answer() -> None:
    for name in ("around a corner", "four boxes"):
        for each in symmetries(SOLVABLE[name]):
            on_canvas = placed(each, (12, 12), (3, 4))
            found = solve(on_canvas, 20_000)
            assert found.moves is not None
            assert is_solved(play(on_canvas, found.moves))


def test_the_bound_is_kept_and_said() -> None:
    start = SOLVABLE["the first level of XSokoban in small"]
    whole = solve(start, 20_000)
    assert whole.nodes > 3
    found = solve(start, 3)
    assert (found.verdict, found.moves, found.nodes) == ("unknown", None, 3)


def test_the_same_level_gets_the_same_solution() -> None:
    start = SOLVABLE["four boxes"]
    assert solve(start, 20_000) == solve(start.copy(), 20_000)


def test_a_level_that_is_not_well_formed_has_no_solution() -> None:
    open_level = EASY.copy()
    open_level[0, 2] = Tile.FLOOR
    assert solve(open_level, 100).verdict == "false"
