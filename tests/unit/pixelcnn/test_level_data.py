"""Levels from the package: parsed, with positions of their solutions, held out whole, and varied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.families.pixelcnn.level_data import (
    LevelSet,
    example,
    positions,
    read_levels,
    read_sample,
    read_solution,
    read_split,
    write_levels,
    write_sample,
)
from services.families.pixelcnn.sokoban import canonical, is_solved, is_well_formed, level_text, moved
from services.families.pixelcnn.train import SokobanPixelCnn
from services.training.publish import builtin_folder
from tests.unit.pixelcnn.tiny import EASY, level

LONG = level(
    "########",
    "#@$   .#",
    "#      #",
    "########",
)
FILE = """########
#@$   .#
#      #
########
Author: Somebody
Title: In a row #01
Comment:
color red
Comment-End:
"""


def make_package(folder: Path) -> Path:
    maps = folder / "usr" / "share" / "games" / "cavepacker" / "maps"
    maps.mkdir(parents=True)
    wide = "#" * 13 + "\n#@$." + " " * 8 + "#\n" + "#" * 13 + "\n"
    for name, text, solution in (
        ("gri0001", FILE, "4r\n"),
        ("gri0002", wide, "r"),
        ("microban01_0001", FILE, "4r"),  # not in the public domain
        ("xsokoban0001", FILE.replace("\n", "\r\n"), "2(r)2r"),
    ):
        (maps / f"{name}.sok").write_text(text)
        (maps / f"{name}.sol").write_text(solution)
    return folder


def test_levels_that_fit_are_read_from_the_sets_in_the_public_domain(tmp_path: Path) -> None:
    found = read_levels(make_package(tmp_path), 12)
    assert len(found) == 2
    for each in found:
        assert level_text(each[0].long().numpy()) == level_text(LONG)
        assert each.dtype == torch.uint8


@pytest.mark.parametrize(
    ("short", "moves"),
    [("lurd", "lurd"), ("3r2d", "rrrdd"), ("12u", "u" * 12), ("2(rdd)l", "rddrddl"), ("2(r2d3(lu))", "rddlululu" * 2)],
)
def test_solutions_are_read_in_full(short: str, moves: str) -> None:
    assert read_solution(short + "\n") == moves


def test_positions_are_of_the_solution_s_first_part_and_never_solved() -> None:
    found = positions(LONG, "rrrr")
    assert [level_text(each).splitlines()[1] for each in found] == [
        "#@$   .#",
        "# @$  .#",
        "#  @$ .#",
        "#   @$.#",
    ]
    assert level_text(positions(EASY, "r")[0]) == level_text(EASY)
    assert not any(is_solved(each) for each in positions(EASY, "r"))
    assert len(positions(LONG, "rl" * 50 + "r")) <= 24


def test_levels_are_held_out_whole_and_come_back_as_written(tmp_path: Path) -> None:
    levels = [
        torch.full((1 + i % 3, 3, 4 + i % 2), i % 8, dtype=torch.uint8) for i in range(25)
    ]  # only shapes and numbers matter here
    write_levels(tmp_path, levels)
    split = read_split(tmp_path)
    assert (len(split.train.levels), len(split.held_out.levels)) == (23, 2)
    for got, i in zip(split.held_out.levels, (9, 19), strict=True):
        assert torch.equal(got, levels[i])
    kept = [each for i, each in enumerate(levels) if i % 10 != 9]
    assert all(torch.equal(a, b) for a, b in zip(split.train.levels, kept, strict=True))


def test_an_example_is_a_position_of_the_level_in_some_form_somewhere() -> None:
    stack = torch.from_numpy(np.stack(positions(LONG, "rrrr"))).to(torch.uint8)
    known = {canonical(each.long().numpy()) for each in stack}
    draws = torch.Generator().manual_seed(0)
    drawn = [example(stack, 12, draws) for _ in range(200)]
    assert all(each.shape == (12, 12) and is_well_formed(each) for each in drawn)
    assert {canonical(each) for each in drawn} == known
    assert len({each.tobytes() for each in drawn}) > 150
    assert (example(stack, 12, torch.Generator().manual_seed(0)) == drawn[0]).all()


def test_the_sample_comes_back_as_written(tmp_path: Path) -> None:
    stacks = [torch.from_numpy(np.stack([each])).to(torch.uint8) for each in (LONG, EASY)]
    write_sample(LevelSet(stacks), tmp_path)
    assert [level_text(each) for each in read_sample(tmp_path)] == [level_text(LONG), level_text(EASY)]


def test_published_levels_parse_and_are_well_formed() -> None:
    folder = builtin_folder(SokobanPixelCnn())
    if not folder.is_dir():
        pytest.skip("the model is not published")
    levels = read_sample(folder)
    assert len(levels) >= 10
    assert all(is_well_formed(each) and max(each.shape) <= 12 for each in levels)
    assert not any(is_solved(each) for each in levels)


def test_a_move_leaves_the_level_before_it_alone() -> None:
    before = level_text(LONG)
    moved(LONG, "r")
    assert level_text(LONG) == before
