"""Owns `castalia top`: readings of a gateway in turn, shown live, printed once or written as JSON."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live

from services.cli.context import CliError, JsonOption, KeyOption, UrlOption, connect, tools
from services.cli.printing import plain

if TYPE_CHECKING:
    from services.cli.client import Client
    from services.cli.top.figures import FleetFigures
    from services.cli.top.scrapes import Scrapes
    from services.cli.top.view import View

QUIT = {"q", "Q"}
WHOLE = 250  # columns of a pipe: nothing is left out


def top(
    ctx: typer.Context,
    address: Annotated[str | None, typer.Argument(metavar="[URL]", help="The gateway, as --url.")] = None,
    *,
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.5, help="Seconds between two readings.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one reading, over one interval, and end.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Show a fleet as it works: models and gateways, by their `/metrics`. q or Ctrl-C ends it.

    Where keys are asked for, it takes an operator's. Through a pipe, and as JSON, it is one reading.
    """
    from services.cli.top.scrapes import Scrapes
    from services.cli.top.view import View

    client = connect(ctx, address or url, api_key)
    scrapes, view, out = Scrapes(), View(), tools(ctx).out
    _read(client, scrapes)  # what cannot be reached is said before anything is shown
    if out.is_terminal and not once and not as_json:
        _live(ctx, client, scrapes, view, interval)
        return
    tools(ctx).sleep(interval)
    figures = _read(client, scrapes)
    if as_json:
        whole = {"url": client.url, **asdict(figures)}
        out.print(json.dumps(whole, indent=2), markup=False, highlight=False, soft_wrap=True)
    else:
        view.note(figures)
        wide = out if out.is_terminal else Console(file=out.file, width=WHOLE)
        wide.print(view.tables(figures, wide))


def _live(ctx: typer.Context, client: Client, scrapes: Scrapes, view: View, interval: float) -> None:
    """Until a key ends it. A gateway that does not answer for a while is waited for."""
    from services.cli.top.keyboard import single_keys

    tables: RenderableType = ""
    with (
        suppress(KeyboardInterrupt),
        single_keys(tools(ctx).sleep) as key_within,
        Live(console=tools(ctx).out, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        while True:
            note = plain(f"{client.url}  {time.strftime('%H:%M:%S')}  every {interval:g} s  q ends", "dim")
            try:
                figures = _read(client, scrapes)
                view.note(figures)
                tables = view.tables(figures, live.console)
            except CliError as error:
                note = plain(str(error), "bold red")
            live.update(Group(note, tables), refresh=True)
            if key_within(interval) in QUIT:
                return


def _read(client: Client, scrapes: Scrapes) -> FleetFigures:
    """Raises CliError: no gateway answers, or what answers is none."""
    from services.cli.top.figures import figures_of

    served = client.models()
    text = client.text("/metrics")
    try:
        scrapes.take(text, time.monotonic())
    except ValueError as error:
        raise CliError(f"{client.url}/metrics is not in Prometheus' text format; is it a Castalia gateway?") from error
    return figures_of(scrapes, served)
