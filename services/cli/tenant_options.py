"""Owns the options that say what a tenant may do, for every command that takes them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from services.cli.context import CliError

if TYPE_CHECKING:
    from services.gateway.tenants import Tenant

Ceiling = Literal["interactive", "default", "batch"]
PANEL = "The tenant's limits"


class Limit(StrEnum):
    """What can be taken away from a tenant again."""

    MODELS = "models"
    REQUESTS = "requests-per-minute"
    UNITS = "units-per-minute"
    CONCURRENCY = "concurrency"
    MONTH = "units-per-month"
    DEADLINE = "max-deadline-s"


ModelsOption = Annotated[
    str | None, typer.Option("--models", help="The only models that it may use, as a,b.", rich_help_panel=PANEL)
]
RequestsOption = Annotated[int | None, typer.Option("--requests-per-minute", min=1, rich_help_panel=PANEL)]
UnitsOption = Annotated[
    int | None,
    typer.Option(
        "--units-per-minute", min=1, help="Work, in the models' units; of text, tokens.", rich_help_panel=PANEL
    ),
]
ConcurrencyOption = Annotated[
    int | None, typer.Option("--concurrency", min=1, help="Requests at once.", rich_help_panel=PANEL)
]
CeilingOption = Annotated[
    Ceiling | None,
    typer.Option("--priority-ceiling", help="The best priority that its requests may have.", rich_help_panel=PANEL),
]
WeightOption = Annotated[
    float | None,
    typer.Option("--weight", min=0.001, max=1000, help="Its share where tenants compete; 1.", rich_help_panel=PANEL),
]
MonthOption = Annotated[
    int | None, typer.Option("--units-per-month", min=1, help="Its quota, by months in UTC.", rich_help_panel=PANEL)
]
DeadlineOption = Annotated[
    float | None,
    typer.Option("--max-deadline-s", min=0.001, help="The longest that a request may take.", rich_help_panel=PANEL),
]
OperatorOption = Annotated[
    bool | None,
    typer.Option(
        "--operator/--no-operator", help="Whether its keys may read the figures of all tenants.", rich_help_panel=PANEL
    ),
]
ClearOption = Annotated[
    list[Limit] | None, typer.Option("--clear", help="Take this limit away; may be given again.", rich_help_panel=PANEL)
]


def change_of(
    *,
    models: str | None,
    requests_per_minute: int | None,
    units_per_minute: int | None,
    concurrency: int | None,
    priority_ceiling: Ceiling | None,
    weight: float | None,
    units_per_month: int | None,
    max_deadline_s: float | None,
    operator: bool | None,
    clear: list[Limit] | None = None,
) -> Callable[[Tenant], Tenant]:
    """What these options make of a tenant; what was not given stays. Raises CliError."""
    from dataclasses import replace

    from shared.calls import Priority

    changes: dict[str, Any] = {
        "requests_per_minute": requests_per_minute,
        "units_per_minute": units_per_minute,
        "concurrency": concurrency,
        "weight": weight,
        "units_per_month": units_per_month,
        "longest_s": max_deadline_s,
        "is_operator": operator,
        "models": None if models is None else _names(models),
        "ceiling": None if priority_ceiling is None else Priority[priority_ceiling.upper()],
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    for limit in clear or []:
        name = "longest_s" if limit is Limit.DEADLINE else limit.replace("-", "_")
        if name in changes:
            raise CliError(f"--{limit} and --clear {limit} contradict each other")
        changes[name] = None
    return lambda tenant: replace(tenant, **changes)


def _names(models: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in models.split(",") if name.strip())
    if not names:
        raise CliError("--models names no model; --clear models allows every one")
    return names


def described(tenant: Tenant) -> dict[str, Any]:
    """A tenant as JSON, by the options' names; null is no limit."""
    return {
        "tenant": tenant.name,
        "models": None if tenant.models is None else sorted(tenant.models),
        "requests_per_minute": tenant.requests_per_minute,
        "units_per_minute": tenant.units_per_minute,
        "concurrency": tenant.concurrency,
        "priority_ceiling": cast(str, tenant.ceiling.name).lower(),
        "weight": tenant.weight,
        "units_per_month": tenant.units_per_month,
        "max_deadline_s": tenant.longest_s,
        "operator": tenant.is_operator,
    }
