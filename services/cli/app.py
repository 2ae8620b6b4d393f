"""Owns the list of commands and the one place where an expected failure becomes a line and exit status 1."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from services.cli.batch_commands import batch
from services.cli.context import CliError, Tools
from services.cli.deploy_commands import deploy
from services.cli.fleet_commands import apply, down, status, up
from services.cli.generate.group import IMAGE_EXAMPLES, generate
from services.cli.image_commands import image
from services.cli.keys_commands import keys
from services.cli.load_commands import PASSED_ON, capacity, loadtest, plan
from services.cli.stores import upgrade
from services.cli.talk_commands import chat, models
from services.cli.tenants_commands import tenants, usage
from services.cli.top.command import top
from services.cli.train_commands import evaluate, train
from services.cli.upkeep_commands import manifest, pull


class CastaliaGroup(TyperGroup):
    """Shows a CliError as one message without a traceback; anything else is a bug and keeps its own."""

    def invoke(self, ctx: Any) -> object:  # typer vendors click: the type has no public name
        try:
            return super().invoke(ctx)
        except CliError as error:
            Console(stderr=True).print("[bold red]error:[/]", end=" ")
            Console(stderr=True, soft_wrap=True).print(str(error), markup=False, highlight=False)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="castalia",
    cls=CastaliaGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "[bold]Start here:[/] castalia up, then castalia chat, and castalia down in the end.\n\n"
        "[bold]Environment:[/] CASTALIA_URL (a gateway to talk to), CASTALIA_API_KEY (its key),"
        " CASTALIA_HOME (caches, fleets and logs; ~/.castalia by default)."
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"castalia {version('castalia')}")
        raise typer.Exit


@app.callback()
def castalia(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Serve every family of generative model from one HTTP gateway, and talk to it."""
    if ctx.obj is None:
        ctx.obj = Tools()


app.command(epilog="[bold]Examples:[/]\n\ncastalia up\n\ncastalia up --models my.yaml --name second --port 8001")(up)
app.command(epilog="[bold]Examples:[/]\n\ncastalia apply\n\ncastalia apply second")(apply)
app.command(epilog="[bold]Examples:[/]\n\ncastalia down\n\ncastalia down second")(down)
app.command(epilog="[bold]Example:[/]\n\ncastalia status")(status)
app.command(
    epilog="[bold]Examples:[/]\n\ncastalia top\n\ncastalia top http://10.0.0.7:8000 --interval 5\n\ncastalia top --json"
)(top)
app.command(epilog="[bold]Example:[/]\n\ncastalia models --url http://10.0.0.7:8000")(models)
app.add_typer(generate, name="generate")
app.command(hidden=True, epilog=IMAGE_EXAMPLES)(image)  # as `castalia generate image`, from before there was that
app.command(
    epilog=(
        "[bold]Examples:[/]\n\ncastalia batch requests.jsonl\n\n"
        "castalia batch requests.jsonl --no-wait\n\ncastalia batch batch_1f0c... -o results.jsonl"
    )
)(batch)
app.command(
    epilog=(
        "[bold]Examples:[/]\n\ncastalia chat\n\n"
        'castalia chat --model smollm2-135m-instruct --system "You answer in rhymes."\n\n'
        'printf "Hello\\nAnd again\\n" | castalia chat'
    )
)(chat)
app.command(
    epilog=(
        "[bold]Examples:[/]\n\ncastalia pull\n\ncastalia pull smollm2-135m-instruct\n\n"
        "castalia pull hf://HuggingFaceTB/SmolLM2-135M-Instruct@12fd25f77366fa6b3b4b768ec3050bf629380bac"
    )
)(pull)
app.command(epilog="[bold]Example:[/]\n\ncastalia manifest ./my-model")(manifest)
app.command(
    epilog=(
        "[bold]Examples:[/]\n\ncastalia train --list\n\ncastalia train digits-gan --threads 2 --max-minutes 20\n\n"
        "castalia train digits-gan --stage publish --output ./digits-gan"
    )
)(train)
app.command(epilog="[bold]Example:[/]\n\ncastalia evaluate digits-gan")(evaluate)
app.command(
    context_settings=PASSED_ON,
    epilog="[bold]Examples:[/]\n\ncastalia loadtest --profile release --out report\n\ncastalia loadtest --help",
)(loadtest)
app.command(
    context_settings=PASSED_ON,
    epilog="[bold]Example:[/]\n\ncastalia capacity chat:smollm2-135m-instruct --time-to-first 2",
)(capacity)
app.command(context_settings=PASSED_ON, epilog="[bold]Example:[/]\n\ncastalia plan fleet.yaml --out report")(plan)
app.add_typer(keys, name="keys")
app.add_typer(tenants, name="tenants")
app.command(epilog="[bold]Examples:[/]\n\ncastalia usage\n\ncastalia usage --tenant my-app --since 2026-01-01 --daily")(
    usage
)
db = typer.Typer(help="Look after the store.", no_args_is_help=True)
db.callback()(lambda: None)
db.command("upgrade", epilog="[bold]Example:[/]\n\ncastalia db upgrade")(upgrade)
app.add_typer(db, name="db")
app.add_typer(deploy, name="deploy")


def main() -> None:
    """The console script."""
    app()
