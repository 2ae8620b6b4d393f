"""Owns the commands that make and measure the built-in models: train, evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.cli.context import CliError, settings, tools

_PLACES = "Where"
_SPEED = "How long and how fast"


class Stage(StrEnum):
    """The pipeline's stages, in order."""

    COLLECT = "collect"
    PREPROCESS = "preprocess"
    TRAIN = "train"
    PUBLISH = "publish"


def train(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="One of those that --list shows, or a recipe of yours: module:attribute."
        ),
    ] = None,
    *,
    listing: Annotated[bool, typer.Option("--list", help="Show the models that can be trained, and leave.")] = False,
    stage: Annotated[
        Stage | None,
        typer.Option(help="This stage alone, on what is cached; `publish` takes a run as it is, unfinished or not."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="What all weights, batches and noise are drawn from.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Train so many steps in place of the recipe's.", rich_help_panel=_SPEED),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after so long; the same command goes on.", rich_help_panel=_SPEED),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Share each batch among so many processes of Ray Train.", rich_help_panel=_SPEED)
    ] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Torch threads of each worker.", rich_help_panel=_SPEED)
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave a GPU alone.", rich_help_panel=_SPEED)] = False,
    run: Annotated[
        Path | None,
        typer.Option(help="The run's folder; CASTALIA_HOME/training/MODEL if not given.", rich_help_panel=_PLACES),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run's folder first, if it is a run's.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Publish into this folder, new or published before; RUN/export if not given.",
            rich_help_panel=_PLACES,
        ),
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish among the built-in models.", rich_help_panel=_PLACES)
    ] = False,
) -> None:
    """Make a built-in model: collect, preprocess, train, evaluate, publish. A run that was stopped goes on."""
    from services.cli.training import Request, run_folder, show_recipes, train_model
    from services.training.errors import TrainingError

    if name is None and not listing:
        raise CliError("which model? castalia train --list shows those that can be trained")
    if publish and output is not None:
        raise CliError("--publish and --output name two places: give one")
    home = settings().home
    try:
        if name is None or listing:
            show_recipes(tools(ctx).out, home)
            return
        folder = run_folder(name, run, home)
        request = Request(name, folder, stage, seed, steps, max_minutes, workers, threads, cpu, fresh)
        target = output.expanduser().absolute() if output else None if publish else folder / "export"
        train_model(request, home, target, tools(ctx))
    except TrainingError as error:
        raise CliError(str(error)) from error


def evaluate(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A built-in model.")],
    weights: Annotated[Path | None, typer.Option(help="A published folder in place of the built-in one.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Write the new figures into its report and card.")] = False,
) -> None:
    """Measure a built-in model on held-out data again; exit status 1 where a figure leaves its tolerance."""
    from services.cli.training import evaluate_model
    from services.sources import SourceError
    from services.training.errors import TrainingError

    try:
        within = evaluate_model(name, weights, settings().home, tools(ctx), update=update)
    except (TrainingError, SourceError) as error:
        raise CliError(str(error)) from error
    if not within:
        raise typer.Exit(1)
