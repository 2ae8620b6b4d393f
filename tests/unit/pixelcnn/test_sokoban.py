"""Levels: as text, by the rules of the game, and which are well-formed."""

from __future__ import annotations

import numpy as np
import pytest

from services.families.pixelcnn.level_data import centred, placed
from services.families.pixelcnn.level_drawing import SIDE, draw_level
from services.families.pixelcnn.sokoban import (
    NoLevel,
    NoMove,
    Tile,
    canonical,
    cropped,
    is_solved,
    is_well_formed,
    level_text,
    moved,
    parse_level,
    symmetries,
)
from tests.unit.pixelcnn.tiny import EASY, level

ODD = level(
    "  ####",
    "###  #",
    "#+$* #",
    "#    #",
    "######",
)


def test_a_level_s_text_comes_back_as_it_was() -> None:
    text = level_text(ODD)
    assert text.splitlines()[2] == "#+$* #"
    assert level_text(parse_level(text)) == text
    assert [len(line) for line in text.splitlines()] == [6] * 5


def test_what_the_walls_close_off_is_outside() -> None:
    assert ODD[0, 0] == Tile.OUTSIDE
    assert ODD[1, 3] == Tile.FLOOR
    pocket = level("#######", "#@$.# #", "#######")
    assert pocket[1, 5] == Tile.OUTSIDE


@pytest.mark.parametrize(("text", "why"), [("#####\n#x$.#\n#####", "no tile"), ("####\n#$.#\n####", "0 players")])
def test_a_text_that_is_no_level_is_refused(text: str, why: str) -> None:
    with pytest.raises(NoLevel, match=why):
        parse_level(text)


@pytest.mark.parametrize("good", [EASY, ODD, centred(EASY, (9, 9)), placed(ODD, (12, 12), (7, 6))])
def test_a_well_formed_level_is_one_wherever_it_is_on_the_canvas(good: np.ndarray) -> None:
    assert is_well_formed(good)
    assert all(is_well_formed(each) for each in symmetries(good))


def spoilt(cell: tuple[int, int], tile: Tile) -> np.ndarray:
    bad = ODD.copy()
    bad[cell] = tile
    return bad


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (spoilt((2, 1), Tile.GOAL), "no player"),
        (spoilt((3, 3), Tile.PLAYER), "two players"),
        (spoilt((2, 2), Tile.FLOOR), "fewer boxes than goals"),
        (spoilt((3, 3), Tile.BOX), "more boxes than goals"),
        (spoilt((0, 3), Tile.OUTSIDE), "a hole in the wall"),
        (spoilt((4, 2), Tile.FLOOR), "floor at the canvas's edge"),
        (spoilt((3, 2), Tile.OUTSIDE), "a hole in the floor"),
        (level("######", "#@ * #", "######"), "no box off its goal"),
        (level("####", "#@ #", "####"), "no box"),
        (level("########", "#@  #$.#", "########"), "box and goal behind a wall"),
    ],
)
def test_a_level_that_is_not_well_formed_is_told(bad: np.ndarray, why: str) -> None:
    assert not is_well_formed(bad), why


def test_a_box_before_another_or_a_wall_cannot_be_pushed() -> None:
    with pytest.raises(NoMove, match="box"):
        moved(ODD, "r")
    with pytest.raises(NoMove, match="player"):
        moved(EASY, "u")


def test_a_push_solves_the_easy_level() -> None:
    after = moved(EASY, "R")
    assert level_text(after) == "#####\n# @*#\n#####"
    assert is_solved(after)
    assert not is_solved(EASY)


def test_a_player_leaves_the_goal_it_stood_on() -> None:
    down = moved(ODD, "d")
    assert level_text(down).splitlines()[2:4] == ["#.$* #", "#@   #"]
    assert level_text(moved(down, "u")) == level_text(ODD)


def test_a_level_is_the_same_in_every_symmetry_and_place() -> None:
    forms = {canonical(placed(each, (10, 11), (2, 3))) for each in symmetries(ODD)}
    assert forms == {canonical(ODD)}
    assert canonical(EASY) != canonical(ODD)
    assert len({level_text(each) for each in symmetries(ODD)}) == 8


def test_cropping_leaves_what_can_be_seen_in_text() -> None:
    canvas = placed(ODD, (12, 12), (4, 5))
    canvas[11, 0] = Tile.FLOOR  # looks like outside
    assert (cropped(canvas) == ODD).all()
    assert cropped(np.full((3, 3), Tile.OUTSIDE)).shape == (1, 1)


def test_every_tile_looks_different() -> None:
    tiles = [draw_level(np.array([[tile]])) for tile in Tile]
    assert all(picture.size == (SIDE, SIDE) for picture in tiles)
    assert len({picture.tobytes() for picture in tiles}) == len(Tile)


def test_a_picture_has_each_tile_at_its_place() -> None:
    picture = draw_level(ODD)
    assert picture.size == (6 * SIDE, 5 * SIDE)
    for (row, column), tile in np.ndenumerate(ODD):
        box = (column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE)
        assert picture.crop(box).tobytes() == draw_level(np.array([[tile]])).tobytes()
