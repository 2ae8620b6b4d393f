"""Owns MODEL_CARD.md: a report and its recipe as a page to read. Measures nothing."""

from __future__ import annotations

from datetime import timedelta

import yaml

from services.training.recipe import Figure, Recipe
from services.training.report import Report

CARD = "MODEL_CARD.md"
SHEETS = "sheets"


def render_card(recipe: Recipe, report: Report) -> str:
    """Front matter, summary, figures, samples, data and licences, how it was made."""
    parts = [
        _front_matter(recipe),
        f"# {recipe.name}",
        recipe.summary.strip(),
        "## Figures",
        _figures(report),
        *(f"- {note}" for note in report.notes),
        "## Samples",
        *(f"![{stem}]({SHEETS}/{stem}.png)" for stem in report.sheets),
        "## Data and licences",
        _licences(recipe, report),
        "## How it was made",
        _made(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(recipe: Recipe) -> str:
    head = {"license": recipe.licence.weights, "tags": [recipe.family], "library_name": "castalia"}
    return f"---\n{yaml.safe_dump(head, sort_keys=False).strip()}\n---"


def _figures(report: Report) -> str:
    lines = ["| figure | value | compared with | better | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.name} | {one.value:.4g} | {_baseline(one)} | {one.better} | {one.meaning} |" for one in report.figures
    ]
    return "\n".join(lines)


def _baseline(figure: Figure) -> str:
    return "" if figure.baseline is None else f"{figure.baseline:.4g} {figure.baseline_name}".strip()


def _licences(recipe: Recipe, report: Report) -> str:
    licence = recipe.licence
    lines = [
        f"Trained on: {licence.data} ({licence.data_licence}). {licence.attribution}",
        "",
        f"The weights are {licence.weights}.",
    ]
    if report.packages:
        lines += ["", "| package | registry | file | licence | SHA-256 |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.name} {one.version} | {one.registry} | {one.file} | {one.licence} | `{one.sha256}` |"
        for one in report.packages
    ]
    return "\n".join(lines)


def _made(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    shards = "" if report.shards == 1 else f" in {report.shards} shards"
    seed = "" if report.seed == 0 else f" --seed {report.seed}"
    workers = "" if report.shards == 1 else f" --workers {report.shards}"
    return (
        f"{report.steps} steps of {report.batch_size} examples{shards}, seed {report.seed},"
        f" {timedelta(seconds=round(report.wall_seconds))} on {report.machine}; commit {report.commit or 'unknown'};"
        f" {versions}. The weights take {report.weights_bytes} bytes.\n\n"
        "```sh\n"
        f"castalia train {report.name}{seed}{workers} --publish   # makes it again\n"
        f"castalia evaluate {report.name}   # measures it again\n"
        "```"
    )
