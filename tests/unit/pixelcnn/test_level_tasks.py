"""From requests to levels: attempts, verdicts, text and picture."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from services.families import LoadedModel
from services.families.pixelcnn.family import load
from services.families.pixelcnn.level_data import placed
from services.families.pixelcnn.level_drawing import SIDE, draw_level
from services.families.pixelcnn.level_tasks import LevelChunk, LevelFinish, LevelTask
from services.families.pixelcnn.params import LevelParams
from services.families.pixelcnn.sokoban import Tile, is_solved, is_well_formed, moved, parse_level
from services.nn.rng import image_seed
from shared.events import Item
from shared.schemas.levels import Level, LevelGenerationRequest
from tests.contract.driver import run_rows
from tests.unit.pixelcnn.tiny import EASY, LEVELS, level_config


def level_rows(loaded: LoadedModel, **fields: Any) -> list[LevelParams]:
    request = LevelGenerationRequest.model_validate({"model": "tiny-levels", **fields})
    return list(loaded.tasks["level"].prepare(request))


def shown(task: LevelTask, chunk: LevelChunk) -> Level:
    item = task.encode(chunk)
    assert isinstance(item, Item)
    assert item.tokens == 0
    return Level.model_validate_json(item.json[:-1] + b',"index":0}')


TASK = LevelTask(height=12, temperature=1.0, max_nodes=1000)
CANVAS = placed(EASY, (12, 12), (5, 2))


def test_each_level_has_a_seed_of_its_own_that_draws_it_again(loaded_levels: LoadedModel) -> None:
    rows = level_rows(loaded_levels, n=4, seed=3, attempts=2, temperature=0.7)
    assert [row.seed for row in rows] == [image_seed(3, i) for i in range(4)]
    assert {(row.attempts, row.temperature, row.height) for row in rows} == {(2, 0.7, LEVELS.height)}
    run = run_rows(loaded_levels.sampler, rows)
    levels = [run.chunks(i)[0].level for i in range(1, 5)]
    assert len({each.tobytes() for each in levels}) == 4
    (again,) = level_rows(loaded_levels, seed=rows[2].seed, attempts=2, temperature=0.7)
    assert again == rows[2]
    assert (run_rows(loaded_levels.sampler, [again]).chunks(1)[0].level == levels[2]).all()


def test_eight_attempts_and_the_model_s_own_temperature_are_the_default(levels_folder: Path) -> None:
    (row,) = level_rows(load(level_config(levels_folder, temperature=0.5), levels_folder))
    assert (row.attempts, row.cost, row.temperature) == (8, 8 * LEVELS.height, 0.5)
    (usual,) = level_rows(load(level_config(levels_folder), levels_folder))
    assert usual.temperature == 0.8


@pytest.mark.parametrize("fields", [{"n": 0}, {"n": 129}, {"attempts": 65}, {"temperature": 0}, {"prompt": "hard"}])
def test_a_request_out_of_bounds_is_refused(loaded_levels: LoadedModel, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        level_rows(loaded_levels, **fields)


def test_a_well_formed_level_is_given_at_once_and_another_with_its_last_attempt() -> None:
    finish, row = LevelFinish(), LevelParams(1, 1.0, 3, 12)
    good = finish.whole(row, CANVAS, 2)
    assert good is not None
    assert (good.well_formed, good.attempts) == (True, 2)
    blank = np.full((12, 12), Tile.OUTSIDE)
    assert finish.whole(row, blank, 2) is None
    bad = finish.whole(row, blank, 3)
    assert bad is not None
    assert (bad.well_formed, bad.attempts) == (False, 3)


def test_a_playable_level_comes_cropped_with_a_solution_that_solves_it() -> None:
    level = shown(TASK, LevelChunk(CANVAS, True, 2, 99))
    assert (level.width, level.height, level.attempts, level.seed) == (5, 3, 2, 99)
    assert (level.well_formed, level.playable, level.solution) == (True, "true", "R")
    parsed = parse_level(level.text)
    assert is_well_formed(parsed)
    assert is_solved(moved(parsed, level.solution))


def test_a_picture_shows_the_level() -> None:
    level = shown(TASK, LevelChunk(CANVAS, True, 1, 0))
    with Image.open(io.BytesIO(base64.b64decode(level.b64_json))) as picture:
        assert picture.format == "PNG"
        assert picture.size == (5 * SIDE, 3 * SIDE)
        assert picture.convert("RGB").tobytes() == draw_level(EASY).tobytes()


def test_a_level_that_is_not_well_formed_is_given_as_it_is_and_not_playable() -> None:
    broken = CANVAS.copy()
    broken[5, 3] = Tile.OUTSIDE
    level = shown(TASK, LevelChunk(broken, False, 8, 0))
    assert (level.well_formed, level.playable, level.solution) == (False, "false", None)
    assert level.text.splitlines()[0] == "# ###"


def test_a_level_that_the_solver_gives_up_is_unknown() -> None:
    level = shown(LevelTask(height=12, temperature=1.0, max_nodes=0), LevelChunk(CANVAS, True, 1, 0))
    assert (level.playable, level.solution) == ("unknown", None)


def test_levels_are_encoded_off_the_event_loop(loaded_levels: LoadedModel) -> None:
    assert loaded_levels.tasks["level"].encodes_slowly
