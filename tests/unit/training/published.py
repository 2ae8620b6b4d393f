"""Which models that are trained here must be published, and that they keep what their reports say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.app import load_fleet_config
from services.sources import verify
from services.training.publish import builtin_folder
from services.training.recipe import Figure
from services.training.recipes import RECIPES, load_recipe
from services.training.report import read_report

ROOT = Path(__file__).parents[3]
_BUILTIN = "builtin://"
_MOST_SAMPLE = 100_000  # bytes


def served(family: str) -> set[str]:
    """The names of the built-in models of a family that models.yaml serves."""
    services = load_fleet_config(ROOT / "models.yaml").services
    sources = [model.source for service in services if service.family == family for model in service.models]
    return {source.removeprefix(_BUILTIN) for source in sources if source.startswith(_BUILTIN)}


def published(family: str) -> dict[str, Path]:
    """The published folders of a family's recipes, by name. Fails where one is not there that is served."""
    recipes = [recipe for recipe in map(load_recipe, RECIPES.values()) if recipe.family == family]
    folders = {recipe.name: builtin_folder(recipe) for recipe in recipes}
    found = {name: folder for name, folder in folders.items() if folder.is_dir()}
    missing = served(family) - found.keys()
    assert not missing, f"models.yaml serves what is not published: {sorted(missing)}"
    return found


def measured_again(folder: Path, sample: str, measure: Callable[[Path], Figure]) -> Figure:
    """What `measure` finds on the sample beside the weights, once it is as the report says.

    `sample`: a file of the folder, or a pattern of several.
    """
    verify(folder)
    samples = list(folder.glob(sample))
    assert samples
    assert all(path.stat().st_size <= _MOST_SAMPLE for path in samples)
    again = measure(folder)
    reported = {figure.name: figure for figure in read_report(folder).figures}[again.name]
    assert again.value == pytest.approx(reported.value, abs=reported.tolerance), folder.name
    return again
