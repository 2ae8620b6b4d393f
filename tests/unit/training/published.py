"""Which models that are trained here must be published: those that models.yaml serves."""

from __future__ import annotations

from pathlib import Path

from services.app import load_fleet_config
from services.training.publish import builtin_folder
from services.training.recipes import RECIPES, load_recipe

ROOT = Path(__file__).parents[3]
_BUILTIN = "builtin://"


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
