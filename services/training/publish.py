"""Owns the last stages: a run's averaged weights become a folder that serving loads, measured and described.

The folder holds config.json, model.safetensors, what else the recipe exports, report.json, MODEL_CARD.md, sheets/*.png
and manifest.json. It appears in one piece, in place of the one before.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from services.sources import verify, write_manifest
from services.sources.checkpoint import check_folder
from services.sources.licences import LicenceRow
from services.sources.manifest import MANIFEST
from services.sources.resolve import FAMILIES
from services.training.card import CARD, SHEETS, render_card
from services.training.errors import OverBudget
from services.training.recipe import Evaluation, Recipe
from services.training.report import (
    REPORT,
    Comparison,
    Report,
    commit,
    compare,
    read_report,
    versions,
    write_report,
)
from services.training.run import alone, check_replaceable, trained

WEIGHTS = "model.safetensors"

Note = Callable[[str], None]


def builtin_folder(recipe: Recipe, families: Path = FAMILIES) -> Path:
    """Where the recipe's weights are among the built-in models."""
    return families / recipe.family / "weights" / recipe.name


def publish_run(recipe: Recipe, data: Path, run: Path, target: Path, note: Note) -> Report:
    """Export, measure and describe what a run has reached, into `target`. No other process may train it meanwhile.

    Raises NotTrained, CheckpointDamaged, OverBudget, RunBusy, and NotOurs for a target that was not published before.
    """
    with alone(run):
        return _publish(recipe, data, run, target.resolve(), note)


def check_target(target: Path) -> None:
    """Raises NotOurs unless the folder is absent, empty, or was published: it is replaced as a whole."""
    check_replaceable(target, (MANIFEST, REPORT))


def _publish(recipe: Recipe, data: Path, run: Path, target: Path, note: Note) -> Report:
    check_target(target)
    training, progress, begun = trained(recipe, data, run)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        modules = {name: training.modules[name] for name in training.averaged}
        recipe.export(modules, data, partial)
        size = _weights_bytes(recipe, partial)
        note(f"exported {size} bytes of weights; evaluating")
        evaluation = recipe.evaluate(partial, data)
        report = Report(
            name=recipe.name,
            family=recipe.family,
            seed=begun.seed,
            steps=progress.step,
            batch_size=begun.batch_size,
            shards=begun.shards,
            wall_seconds=round(progress.seconds, 3),
            data_version=recipe.version,
            packages=tuple(recipe.packages),
            commit=commit(),
            versions=versions(),
            machine=f"{platform.system()} {platform.machine()}",
            weights_bytes=size,
            figures=tuple(evaluation.figures),
            sheets=tuple(evaluation.sheets),
            notes=tuple(evaluation.notes),
        )
        _describe(recipe, partial, report, evaluation)
        check_folder(partial)
        _replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def reevaluate(recipe: Recipe, weights: Path, data: Path, *, update: bool) -> list[Comparison]:
    """Measure published weights again, beside their report; `update` writes the new figures into it.

    Raises IntegrityError where a file is not the one that was published, NotTrained without a report.
    """
    verify(weights)
    report = read_report(weights)
    evaluation = recipe.evaluate(weights, data)
    if update:
        shutil.rmtree(weights / SHEETS, ignore_errors=True)
        _describe(recipe, weights, report.measured(evaluation), evaluation)
    return compare(report, evaluation)


def licence_row(recipe: Recipe, report: Report) -> LicenceRow:
    licence = recipe.licence
    return LicenceRow(
        name=recipe.name,
        family=recipe.family,
        size=str(report.weights_bytes),
        data=licence.data,
        data_licence=licence.data_licence,
        attribution=licence.attribution,
        weights=licence.weights,
    )


def _describe(recipe: Recipe, folder: Path, report: Report, evaluation: Evaluation) -> None:
    """Write report, sheets and card; the manifest last, as it sums up everything else."""
    (folder / SHEETS).mkdir()
    for stem, sheet in evaluation.sheets.items():
        sheet.save(folder / SHEETS / f"{stem}.png", optimize=True)
    write_report(folder, report)
    (folder / CARD).write_text(render_card(recipe, report))
    write_manifest(folder, source=f"builtin://{recipe.name}")


def _weights_bytes(recipe: Recipe, folder: Path) -> int:
    """Of the weights alone: what else a recipe exports, such as a held-out sample, is no part of its budget."""
    size = (folder / WEIGHTS).stat().st_size
    if size > recipe.max_bytes:
        raise OverBudget(recipe.name, limit=recipe.max_bytes, got=size)
    return size


def _replace(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.is_dir():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
