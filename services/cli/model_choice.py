"""Owns which model is asked: the option that names one, its completion by a shell, and the first that does a task."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.context import CliError, Tools, gateway_url

if TYPE_CHECKING:
    from services.cli.client import Client

COMPLETION_S = 1.0  # how long a shell waits for a gateway
TASKS_OF = {"text": ("chat", "completion"), "chat": ("chat",)}  # of a command that is not named as its task


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids that begin so, of models that do the command's task. Nothing where no gateway answers at once."""
    from services.cli.client import Client

    ctx.obj = ctx.obj or Tools()
    name = ctx.info_name or ""
    tasks = TASKS_OF.get(name, (name,))
    try:
        url = gateway_url(ctx, ctx.params.get("url"))
        with closing(Client(url, ctx.params.get("api_key"), read_s=COMPLETION_S)) as client:
            served = client.models()
    except CliError:
        return []
    return [model.id for model in served if model.id.startswith(incomplete) and set(tasks) & set(model.tasks)]


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help=r"The model's id. \[the first that does the task]",
        autocompletion=complete_model,
    ),
]


def first_model(client: Client, task: str) -> str:
    """The id of the first model that does the task and has not failed, else of the first. Asked, one that sleeps wakes.

    Raises CliError, which names those that are served.
    """
    served = client.models()
    able = [model for model in served if task in model.tasks]
    if able:
        return next((model for model in able if model.state != "failed"), able[0]).id
    names = ", ".join(model.id for model in served) or "none"
    raise CliError(f"no model at {client.url} does {task}; served: {names}")
