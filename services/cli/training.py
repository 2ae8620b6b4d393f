"""Owns the way through the pipeline's stages, with what a person sees of it. Never sees a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.cli.context import Tools
from services.cli.fetching import FetchBar
from services.cli.printing import plain
from services.cli.train_display import train_display
from services.sources.licences import write_licence
from services.training.collect import collect, preprocess
from services.training.distributed import train_on_workers
from services.training.loop import Ending
from services.training.publish import builtin_folder, check_target, licence_row, publish_run, reevaluate
from services.training.recipe import Recipe
from services.training.recipes import RECIPES, load_recipe, recipe_reference
from services.training.run import Job, alone, begin, discard, run_status, train_job
from services.training.stopping import StopOnSignal


@dataclass(frozen=True, slots=True)
class Request:
    """What `castalia train` was asked for."""

    name: str
    folder: Path
    stage: str | None  # None: all of them
    seed: int
    steps: int | None
    max_minutes: float | None
    workers: int
    threads: int | None
    cpu: bool
    fresh: bool


def show_recipes(console: Console, home: Path) -> None:
    """A table of what can be trained."""
    table = Table("model", "family", "weights at most", "status", box=None)
    for name, reference in RECIPES.items():
        recipe = load_recipe(reference)
        status = "published" if builtin_folder(recipe).is_dir() else "not published"
        if done := run_status(home / "training" / name):
            status += f"; a run at step {done.step} of {recipe.schedule.steps}"
        table.add_row(name, recipe.family, f"{recipe.max_bytes / 2**20:.0f} MiB", status)
    console.print(table)


def run_folder(name: str, given: Path | None, home: Path) -> Path:
    """Where a model's run is kept."""
    return given.expanduser().absolute() if given else home / "training" / load_recipe(recipe_reference(name)).name


def train_model(request: Request, home: Path, output: Path | None, tools: Tools) -> None:
    """Go through the stages, or through the one that was asked for. `output` None: among the built-in models."""
    reference = recipe_reference(request.name)
    recipe = load_recipe(reference)
    if request.stage in (None, "publish"):
        check_target(output or builtin_folder(recipe))  # again after hours of training, but said before them
    with FetchBar(tools.err) as bar:
        if request.stage == "collect":
            for name, folder in collect(recipe, home, bar).items():
                tools.out.print(f"{name}: {folder}", highlight=False, soft_wrap=True)
            return
        data = preprocess(recipe, home, bar)
    if request.stage == "preprocess":
        tools.out.print(f"{recipe.name}: {data}", highlight=False, soft_wrap=True)
        return
    if request.stage != "publish":
        with alone(request.folder):
            if not _train(recipe, reference, request, data, tools):
                return
    if request.stage != "train":
        _publish(recipe, request, data, output, tools)


def _train(recipe: Recipe, reference: str, request: Request, data: Path, tools: Tools) -> bool:
    """Returns whether the run came to its end."""
    if request.fresh:
        discard(request.folder)
    begun = begin(request.folder, recipe, request.seed, request.workers)
    job = Job(
        recipe=reference,
        data=str(data),
        folder=str(request.folder),
        seed=request.seed,
        shards=begun.shards,
        steps=request.steps,
        max_seconds=None if request.max_minutes is None else request.max_minutes * 60,
        threads=request.threads,
        cpu=request.cpu,
    )
    tools.err.print(f"the run is in {request.folder}", highlight=False, soft_wrap=True)
    with train_display(tools.err) as display:
        if request.workers > 1:
            ending = train_on_workers(job, request.workers, display)
        else:
            with StopOnSignal() as stop:
                ending = train_job(job, display, stop)
    if ending is Ending.STOPPED:
        again = f"castalia train {recipe.name}"
        tools.err.print(f"stopped: {again} goes on, {again} --stage publish publishes it as it is", highlight=False)
        return False
    tools.err.print(f"training ended: {ending.value}", highlight=False)
    return True


def _publish(recipe: Recipe, request: Request, data: Path, output: Path | None, tools: Tools) -> None:
    target = output or builtin_folder(recipe)
    tools.err.print(f"publishing into {target}", highlight=False, soft_wrap=True)
    report = publish_run(recipe, data, request.folder, target, lambda text: tools.err.print(text, highlight=False))
    if output is None:
        write_licence(licence_row(recipe, report))
    table = Table("figure", "value", "compared with", box=None)
    for figure in report.figures:
        baseline = "" if figure.baseline is None else f"{figure.baseline:.4g} {figure.baseline_name}"
        table.add_row(plain(figure.name), f"{figure.value:.4g}", plain(baseline))
    tools.out.print(table)
    tools.out.print(f"{target}: {report.weights_bytes} bytes of weights", highlight=False, soft_wrap=True)


def evaluate_model(name: str, weights: Path | None, home: Path, tools: Tools, *, update: bool) -> bool:
    """Print a model's figures beside those of its report; returns whether all are within tolerance."""
    recipe = load_recipe(recipe_reference(name))
    with FetchBar(tools.err) as bar:
        data = preprocess(recipe, home, bar)
    rows = reevaluate(recipe, weights or builtin_folder(recipe), data, update=update)
    table = Table("figure", "reported", "measured", "tolerance", "", box=None)
    for row in rows:
        verdict = "" if row.within else "[red]outside[/]"
        table.add_row(plain(row.name), _number(row.reported), _number(row.measured), f"{row.tolerance:.3g}", verdict)
    tools.out.print(table)
    return all(row.within for row in rows)


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.5g}"
