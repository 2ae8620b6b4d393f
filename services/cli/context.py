"""Owns what commands share: their collaborators, the consoles, and where the gateway is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer
from rich.console import Console

if TYPE_CHECKING:
    from services.cli.client import Client
    from services.fleet import FleetState
    from shared.config.models import FleetConfig
    from shared.config.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="CASTALIA_URL",
        help=f"The gateway. Without it: the local fleet that runs, else {DEFAULT_URL}.",
        rich_help_panel="Gateway",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="CASTALIA_API_KEY",
        help="The gateway's API key.",
        rich_help_panel="Gateway",
        show_envvar=True,
    ),
]


class CliError(Exception):
    """An expected failure: shown as it is, exit status 1."""


class Fleets(Protocol):
    """What the commands use of `services.fleet`."""

    def up(
        self, config_path: Path, *, name: str, settings: Settings, on_progress: Callable[[str], None]
    ) -> FleetState: ...
    def serve(
        self,
        config_path: Path,
        *,
        name: str,
        settings: Settings,
        on_progress: Callable[[str], None],
        on_ready: Callable[[FleetState], None] | None = None,
    ) -> None: ...
    def reload(self, name: str, home: Path) -> FleetState: ...
    def applied_config(self, name: str, home: Path) -> FleetConfig: ...
    def down(self, name: str, home: Path) -> bool: ...
    def list_states(self, home: Path) -> list[FleetState]: ...


def _local_fleets() -> Fleets:
    from services import fleet

    return cast(Fleets, fleet)


@dataclass(frozen=True, slots=True)
class Tools:
    """The collaborators of all commands; tests pass their own as the context's object."""

    fleets: Callable[[], Fleets] = _local_fleets
    out: Console = field(default_factory=Console)
    err: Console = field(default_factory=lambda: Console(stderr=True))
    sleep: Callable[[float], None] = time.sleep


def tools(ctx: typer.Context) -> Tools:
    return cast(Tools, ctx.obj)


def settings(**given: Any) -> Settings:
    """The process settings, with the options that were given on the command line on top. Raises CliError."""
    from pydantic import ValidationError

    from shared.config.settings import Settings

    try:
        found = Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        raise CliError(explain(error, "CASTALIA settings")) from error
    keys = found.api_keys_file
    # A fleet's processes run in another folder.
    whole = {"home": found.home.expanduser().absolute(), "api_keys_file": keys and keys.expanduser().absolute()}
    return found.model_copy(update=whole)


def explain(error: object, where: str) -> str:
    """A pydantic.ValidationError as lines `where: field.path: what is wrong`."""
    from pydantic import ValidationError

    assert isinstance(error, ValidationError)
    return "\n".join(
        f"{where}: {'.'.join(str(part) for part in fault['loc']) or 'top level'}: {fault['msg']}"
        for fault in error.errors(include_url=False)
    )


def gateway_url(ctx: typer.Context, given: str | None) -> str:
    """The option or CASTALIA_URL; else the local fleet that runs; else the default address."""
    if given:
        return given
    states = tools(ctx).fleets().list_states(settings().home)
    if len(states) > 1:
        running = ", ".join(f"{state.name} ({state.url})" for state in states)
        raise CliError(f"several fleets run here: {running}; choose one with --url")
    return states[0].url if states else DEFAULT_URL


def connect(ctx: typer.Context, url: str | None, api_key: str | None) -> Client:
    from services.cli.client import Client

    client = Client(gateway_url(ctx, url), api_key)
    ctx.call_on_close(client.close)
    return client
