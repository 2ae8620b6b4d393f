"""Owns the commands for API keys: in the store (create, list, revoke, rotate), and in a file of hashes (new)."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import tenant_options as options
from services.cli.context import CliError, JsonOption, tools
from services.cli.stores import with_store

if TYPE_CHECKING:
    from services.gateway.store.database import Store
    from services.gateway.store.directory import Directory, NewKey, StoredKey

keys = typer.Typer(help="Make and end the API keys that clients show to a gateway.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's public id, as `castalia keys list` shows it.")]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@keys.command(
    "create",
    epilog="[bold]Examples:[/]\n\ncastalia keys create my-app\n\n"
    "castalia keys create my-app --models smollm2-135m-instruct --requests-per-minute 60 --concurrency 4",
)
def create(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Who pays for what is done with the key.")],
    *,
    models: options.ModelsOption = None,
    requests_per_minute: options.RequestsOption = None,
    units_per_minute: options.UnitsOption = None,
    concurrency: options.ConcurrencyOption = None,
    priority_ceiling: options.CeilingOption = None,
    weight: options.WeightOption = None,
    units_per_month: options.MonthOption = None,
    max_deadline_s: options.DeadlineOption = None,
    operator: options.OperatorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key. It is shown once, on standard output; the store holds only its hash.

    The limits are the tenant's, for all of its keys together; those that are not given stay as they are, at first none.
    """
    change = options.change_of(
        models=models,
        requests_per_minute=requests_per_minute,
        units_per_minute=units_per_minute,
        concurrency=concurrency,
        priority_ceiling=priority_ceiling,
        weight=weight,
        units_per_month=units_per_month,
        max_deadline_s=max_deadline_s,
        operator=operator,
    )
    with _refusals():
        made = with_store(lambda store: _directory(store).create_key(tenant, change))
    _say(ctx, f"{made.stored.id} is a key of tenant '{tenant}'. The key is shown once:")
    _show(ctx, made, as_json=as_json)


@keys.command("list", epilog="[bold]Example:[/]\n\ncastalia keys list --tenant my-app")
def list_keys(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the keys by their public ids: whose they are, and until when they let in."""
    from rich.table import Table

    from services.cli.printing import plain

    found = [key for key in with_store(lambda store: _directory(store).keys()) if tenant in (None, key.tenant)]
    if as_json:
        tools(ctx).out.print_json(json.dumps([_described(key) for key in found]))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "tenant", "created", "ends"):
        table.add_column(column, no_wrap=True)
    now = time.time()
    for key in found:
        ends = "never" if key.expires_at is None else _date(key.expires_at)
        style = "" if key.is_live(now) else "dim"
        state = ends if key.is_live(now) else f"ended {ends}"
        table.add_row(*(plain(cell, style) for cell in (key.id, key.tenant, _date(key.created_at), state)))
    tools(ctx).out.print(table if found else "no keys; make one with: castalia keys create TENANT")


@keys.command("revoke", epilog="[bold]Example:[/]\n\ncastalia keys revoke key_0123456789abcdef")
def revoke(ctx: typer.Context, key_id: KeyId) -> None:
    """End a key: within seconds no gateway lets it in."""
    with _refusals():
        ended = with_store(lambda store: _directory(store).revoke(key_id))
    _say(ctx, f"{ended.id} of tenant '{ended.tenant}' has ended; every gateway knows it within seconds")


@keys.command("rotate", epilog="[bold]Example:[/]\n\ncastalia keys rotate key_0123456789abcdef --grace 24h")
def rotate(
    ctx: typer.Context,
    key_id: KeyId,
    grace: Annotated[str, typer.Option(help="How long the old key lets in: 90s, 30m, 24h, 7d.")] = "24h",
    as_json: JsonOption = False,
) -> None:
    """Make a key for the same tenant now, and end the old one after the grace."""
    grace_s = _seconds(grace)
    with _refusals():
        made, old = with_store(lambda store: _directory(store).rotate(key_id, grace_s=grace_s))
    _say(ctx, f"{old.id} ends {_date(old.expires_at or 0)}. {made.stored.id} takes its place, shown once:")
    _show(ctx, made, as_json=as_json)


@keys.command("new", epilog="[bold]Example:[/]\n\ncastalia keys new my-app --file keys.txt")
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The tenant that the key stands for.")],
    file: Annotated[
        Path | None,
        typer.Option(envvar="CASTALIA_API_KEYS_FILE", help="Append the key's hash to this file."),
    ] = None,
) -> None:
    """Make a key for a gateway that takes its keys from a file of hashes instead of the store; tenants have no limits.

    The key is shown once, on standard output.
    """
    from services.gateway.auth import new_key

    with _refusals():
        key, line = new_key(name)
    if file is None:
        _say(ctx, f"Put this line into the gateway's CASTALIA_API_KEYS_FILE:\n{line}")
    else:
        _append(file, line)
        _say(ctx, f"The hash is in {file}; this is the key, shown once:")
    tools(ctx).out.print(key, markup=False, highlight=False, soft_wrap=True)


def _directory(store: Store) -> Directory:
    from services.gateway.store.directory import Directory

    return Directory(store)


@contextmanager
def _refusals() -> Generator[None]:
    """Turns what the directory refuses into CliError."""
    from services.gateway.store.directory import EndedKey, UnknownKey

    try:
        yield
    except ValueError as error:
        raise CliError(str(error)) from error
    except UnknownKey as error:
        raise CliError(f"there is no key {error}; `castalia keys list` shows them") from None
    except EndedKey as error:
        raise CliError(f"{error} has ended already") from None


def _say(ctx: typer.Context, text: str) -> None:
    """Beside the key, which has standard output for itself."""
    tools(ctx).err.print(text, markup=False, highlight=False, soft_wrap=True)


def _show(ctx: typer.Context, made: NewKey, *, as_json: bool) -> None:
    text = json.dumps({**_described(made.stored), "key": made.text}) if as_json else made.text
    tools(ctx).out.print(text, markup=False, highlight=False, soft_wrap=True)


def _described(key: StoredKey) -> dict[str, object]:
    return {"id": key.id, "tenant": key.tenant, "created_at": key.created_at, "expires_at": key.expires_at}


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise CliError(f"--grace is a number and s, m, h or d, such as 24h; got {text!r}")
    return int(match[1]) * SECONDS[match[2]]


def _append(file: Path, line: str) -> None:
    """Add a line to a file that only its owner may read."""
    try:
        with os.fdopen(os.open(file, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600), "r+") as keys_file:
            text = keys_file.read()
            keys_file.write(("\n" if text and not text.endswith("\n") else "") + line + "\n")
    except OSError as error:
        raise CliError(f"cannot write {file}: {error.strerror}") from error
