"""Owns the commands for tenants: what each may do, and what each used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import tenant_options as options
from services.cli.context import CliError, JsonOption, tools
from services.cli.stores import with_store

if TYPE_CHECKING:
    from services.gateway.store.database import Store
    from services.gateway.store.usage_rows import UsageRow
    from services.gateway.tenants import Tenant

tenants = typer.Typer(help="Say what each tenant may do.", no_args_is_help=True)

NO_LIMIT = "-"


@tenants.command(
    "set",
    epilog="[bold]Examples:[/]\n\ncastalia tenants set my-app --units-per-month 50000000 --weight 2\n\n"
    "castalia tenants set my-app --clear units-per-month",
)
def set_limits(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The tenant; it is made if there is none.")],
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
    clear: options.ClearOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a tenant's limits; what is not given stays. Every gateway knows it within seconds.

    The tenant `default` is whoever calls a gateway on loopback while no key was ever made.
    """
    from services.gateway.store.directory import Directory

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
        clear=clear,
    )
    try:
        tenant = with_store(lambda store: Directory(store).save_tenant(name, change))
    except ValueError as error:
        raise CliError(str(error)) from error
    _show(ctx, [tenant], as_json=as_json)


@tenants.command("list", epilog="[bold]Example:[/]\n\ncastalia tenants list")
def list_tenants(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show the tenants of the store, and what each may do."""
    from services.gateway.store.directory import Directory

    _show(ctx, with_store(lambda store: Directory(store).tenants()), as_json=as_json)


def usage(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="From this day on, in UTC. [the month's first]")
    ] = None,
    daily: Annotated[bool, typer.Option("--daily", help="Each day by itself.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what tenants used, as the store has it: gateways write to it every few seconds."""
    from dataclasses import asdict, replace

    from services.gateway.store.usage_rows import merged, read_usage

    today = datetime.now(UTC).date()
    start = today.replace(day=1) if since is None else _day(since)

    async def read(store: Store) -> Sequence[UsageRow]:
        async with store.read() as connection:
            return await read_usage(connection, start=str(start), end=str(max(start, today)), tenant=tenant)

    rows = with_store(read)
    if not daily:
        rows = list(merged(replace(row, day="") for row in rows).values())
    if as_json:
        shown = [asdict(row) for row in rows]
        tools(ctx).out.print_json(json.dumps(shown if daily else [_without_day(row) for row in shown]))
    else:
        _show_usage(ctx, rows, start, daily=daily)


def _without_day(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "day"}


def _show_usage(ctx: typer.Context, rows: Sequence[UsageRow], start: date, *, daily: bool) -> None:
    from rich.table import Table

    from services.cli.printing import plain

    out = tools(ctx).out
    if not rows:
        out.print(f"nothing was used since {start}", highlight=False)
        return
    table = Table(box=None, pad_edge=False, title=f"Since {start} (UTC)", title_justify="left")
    for column in ("tenant", "model", *(["day"] if daily else [])):
        table.add_column(column, no_wrap=True)
    for column in ("requests", "prompt tokens", "completion tokens", "images", "units"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        names = (row.tenant, row.model, *([row.day] if daily else []))
        counts = (row.requests, row.prompt_tokens, row.completion_tokens, row.images, round(row.units))
        table.add_row(*(plain(name) for name in names), *(plain(f"{count:,}") for count in counts))
    out.print(table)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CliError(f"--since is a day such as 2026-01-31; got {text!r}") from None


def _show(ctx: typer.Context, found: Sequence[Tenant], *, as_json: bool) -> None:
    from rich.table import Table

    from services.cli.printing import plain

    rows = [options.described(tenant) for tenant in found]
    if as_json:
        tools(ctx).out.print_json(json.dumps(rows))
        return
    if not rows:
        tools(ctx).out.print("no tenants; make one with: castalia keys create TENANT")
        return
    table = Table(box=None, pad_edge=False)
    for column in (
        "tenant",
        "models",
        "requests/min",
        "units/min",
        "at once",
        "priority",
        "weight",
        "units/month",
        "s",
        "operator",
    ):
        table.add_column(column, no_wrap=column != "models", overflow="fold")
    for row in rows:
        table.add_row(*(plain(_cell(value)) for value in row.values()))
    tools(ctx).out.print(table)


def _cell(value: object) -> str:
    if value is None or value is False:
        return NO_LIMIT
    if value is True:
        return "yes"
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
