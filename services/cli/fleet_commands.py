"""Owns the commands of the local fleet: up, apply, down, status."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.context import CliError, KeyOption, settings, tools
from services.cli.welcome import program, welcome

if TYPE_CHECKING:
    from services.fleet import FleetState
    from shared.config.models import FleetConfig

ModelsOption = Annotated[Path, typer.Option("--models", help="Which services and models to run.")]
NameOption = Annotated[str, typer.Option(help="The fleet's name; fleets of different names run side by side.")]


def up(
    ctx: typer.Context,
    models: ModelsOption = Path("models.yaml"),
    name: NameOption = "default",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The gateway's port, 0 for any free one. [CASTALIA_PORT, else 8000]"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address that it listens on. [CASTALIA_HOST, else 127.0.0.1]")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", help="Leave it running, or stop it with Ctrl-C.")
    ] = True,
) -> None:
    """Start a fleet on this machine: fetch its models, start Ray, and wait until it answers."""
    from services.cli.fetching import fetch_all, load_models
    from services.gateway.auth import is_loopback

    found = settings(port=port, host=host)
    out = tools(ctx).out
    config = load_models(models)
    _refuse_relative(config)
    _refuse_missing_keys(config)
    fleets = tools(ctx).fleets()
    fetch_all(list(config.sources.values()), found.home, tools(ctx).err)
    with _failures(), ExitStack() as stack:
        waiting = stack.enter_context(tools(ctx).err.status(f"starting fleet '{name}'"))

        def ready(state: FleetState) -> None:
            waiting.stop()
            out.print(welcome(state, config), markup=False, highlight=False, soft_wrap=True)
            if found.api_keys_file is None and not is_loopback(found.host):
                out.print(f"Nobody gets in without a key; make one with: {program()} keys create NAME", highlight=False)
            out.print("Ctrl-C stops it." if not detach else f"Stop it with: {program()} down {name}", highlight=False)

        def progress(message: str) -> None:
            waiting.update(message)
            if not tools(ctx).err.is_terminal:  # where nothing spins, each step is a line
                tools(ctx).err.print(message, markup=False, highlight=False, soft_wrap=True)

        if detach:
            ready(fleets.up(models, name=name, settings=found, on_progress=progress))
        else:
            fleets.serve(models, name=name, settings=found, on_progress=progress, on_ready=ready)


def apply(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="The fleet's name. Without it: the one that runs.")] = None,
    api_key: KeyOption = None,
) -> None:
    """Have a running fleet follow its models.yaml as it is now, without a new start, and show what changed."""
    from services.cli.applying import differences, wait_loaded
    from services.cli.client import Client
    from services.cli.fetching import fetch_all, load_models
    from services.cli.printing import plain

    home, out, err = settings().home, tools(ctx).out, tools(ctx).err
    fleets = tools(ctx).fleets()
    state = _running(fleets.list_states(home), name, to="change")
    config = load_models(Path(state.models))
    _refuse_relative(config)
    fetch_all(list(config.sources.values()), home, err)
    with _failures(), err.status(f"fleet '{state.name}' follows {state.models}"):
        before = fleets.applied_config(state.name, home)
        fleets.reload(state.name, home)
        after = fleets.applied_config(state.name, home)
    changes = differences(before, after)
    for change in changes:
        out.print(plain(str(change)), soft_wrap=True)
    with closing(Client(state.url, api_key)) as client, err.status("waiting for its models"):
        states = wait_loaded(client, after, changes, sleep=tools(ctx).sleep)
    if failed := [model for model, now in states.items() if now == "failed"]:
        raise CliError(f"applied, but {', '.join(failed)} did not load; {state.log} says why")
    for model in (model for model, now in states.items() if now == "cold"):
        out.print(plain(f"{model} is loaded when it is first asked for"), soft_wrap=True)
    out.print(f"fleet '{state.name}' follows {state.models}" if changes else "nothing changed", highlight=False)


def down(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="The fleet's name. Without it: the one that runs.")] = None,
) -> None:
    """Stop a fleet of this machine, and nothing else."""
    home = settings().home
    fleets = tools(ctx).fleets()
    chosen = _running(fleets.list_states(home), name, to="stop").name
    with _failures(), tools(ctx).err.status(f"stopping fleet '{chosen}'"):
        stopped = fleets.down(chosen, home)
    if not stopped:
        raise CliError(f"fleet {chosen!r} ended by itself")
    tools(ctx).out.print(f"fleet '{chosen}' has stopped", highlight=False)


def status(ctx: typer.Context) -> None:
    """Show the fleets of this machine, and whether each of them answers."""
    from services.cli.client import Client
    from services.cli.printing import plain

    out = tools(ctx).out
    states = tools(ctx).fleets().list_states(settings().home)
    if not states:
        out.print("no fleet runs here; start one with: castalia up", highlight=False)
    for state in states:
        since = datetime.fromtimestamp(state.created).astimezone().isoformat(" ", "seconds")
        with closing(Client(state.url, None)) as client:
            answers = "answers" if client.is_ready() else "does not answer"
        out.print(plain(f"{state.name}: {state.status}, {answers} at {state.url}", "bold"))
        for label, value in (("since", since), ("pid", state.pid), ("models", state.models), ("log", state.log)):
            out.print(plain(f"  {label:<8}{value}"), soft_wrap=True)


def _running(states: list[FleetState], name: str | None, *, to: str) -> FleetState:
    """The fleet of this name, or the only one. CliError where that is none or not clear."""
    by_name = {state.name: state for state in states}
    names = ", ".join(by_name)
    if name is not None:
        if name not in by_name:
            raise CliError(f"no fleet {name!r} runs here; running: {names or 'none'}")
        return by_name[name]
    if not states:
        raise CliError("no fleet runs here")
    if len(states) > 1:
        raise CliError(f"several fleets run here: {names}; name the one to {to}")
    return states[0]


def _refuse_relative(config: FleetConfig) -> None:
    """The fleet's processes do not run in this folder: a relative path would mean another place there."""
    for model, source in config.sources.items():
        if source.startswith("file://") and not source.startswith("file:///"):
            absolute = Path(source.removeprefix("file://")).absolute()
            raise CliError(f"model {model!r}: a fleet needs absolute paths; write file://{absolute}")


def _refuse_missing_keys(config: FleetConfig) -> None:
    """The fleet's processes inherit this environment, and with it the keys of remote servers."""
    for service in config.upstreams:
        if service.secret_env is not None and not os.environ.get(service.secret_env):
            raise CliError(f"service {service.name!r} takes its key from {service.secret_env}, which is not set")


@contextmanager
def _failures() -> Generator[None]:
    """Turns the fleet's own errors into CliError."""
    from services.fleet import FleetError

    try:
        yield
    except FleetError as error:
        raise CliError(str(error)) from error
