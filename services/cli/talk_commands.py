"""Owns the commands that talk to a gateway: models, generate text, chat."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from services.cli.context import CliError, KeyOption, UrlOption, connect, tools
from services.cli.form_options import (
    AnyJsonOption,
    ChoiceOption,
    RegexOption,
    SchemaOption,
    ToolChoiceOption,
    ToolsOption,
    form_fields,
    tool_fields,
)
from services.cli.model_choice import ModelOption, first_model
from services.cli.out_files import OUT, OutFiles, OverwriteOption
from services.cli.printing import print_piece, say_made

if TYPE_CHECKING:
    from services.cli.client import Delta, End

SAMPLING = "Sampling"
SystemOption = Annotated[str | None, typer.Option("--system", "-s", help="Instructions that come before the prompt.")]
TokensOption = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="The longest answer, in tokens.", rich_help_panel=SAMPLING)
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature", "-t", min=0, max=2, help=r"0 is greedy. \[the model's own]", rich_help_panel=SAMPLING
    ),
]
TopPOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="Choose among this share of probability.", rich_help_panel=SAMPLING)
]
TopKOption = Annotated[
    int | None, typer.Option(min=0, help="Choose among this many tokens; 0: all.", rich_help_panel=SAMPLING)
]
MinPOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Drop tokens below this share of the likeliest.", rich_help_panel=SAMPLING),
]
SeedOption = Annotated[int | None, typer.Option(help="The same seed gives the same text.", rich_help_panel=SAMPLING)]
StopOption = Annotated[
    list[str] | None, typer.Option(help="End before this text; may be given again.", rich_help_panel=SAMPLING)
]


def models(ctx: typer.Context, url: UrlOption = None, api_key: KeyOption = None) -> None:
    """List the models that the gateway serves."""
    from rich.table import Table

    from services.cli.printing import plain

    table = Table(box=None, pad_edge=False)
    for column in ("model", "family", "state", "tasks", "context", "license"):
        table.add_column(column, no_wrap=column != "tasks", overflow="fold")
    for model in connect(ctx, url, api_key).models():
        context = str(model.context) if model.context else ""
        name = model.id if model.base is None else f"{model.id} (on {model.base})"
        cells = (name, model.family, model.state, ", ".join(model.tasks), context, model.license)
        table.add_row(*(plain(cell) for cell in cells))
    tools(ctx).out.print(table)


def text(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to answer; - reads it from standard input.")],
    *,
    model: ModelOption = None,
    out: Annotated[Path | None, typer.Option(*OUT, help=r"A file for the text. \[printed as it is made]")] = None,
    overwrite: OverwriteOption = False,
    system: SystemOption = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Go on with the prompt's text instead of answering it.")
    ] = False,
    max_tokens: TokensOption = 256,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    top_k: TopKOption = None,
    min_p: MinPOption = None,
    seed: SeedOption = None,
    stop: StopOption = None,
    schema: SchemaOption = None,
    any_json: AnyJsonOption = False,
    regex: RegexOption = None,
    choice: ChoiceOption = None,
    tool_file: ToolsOption = None,
    tool_choice: ToolChoiceOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Answer one prompt, streaming the text as it is made."""
    if complete and system:
        raise CliError("--system goes with chat answers; --complete goes on with the prompt as it is")
    form = form_fields(schema=schema, any_json=any_json, regex=regex, choices=choice, complete=complete)
    callable_tools = tool_fields(tool_file, tool_choice, complete=complete)
    files = OutFiles(out, 1, overwrite=overwrite) if out else None
    given = sys.stdin.read() if prompt == "-" else prompt
    client = connect(ctx, url, api_key)
    options = _options(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed, stop=stop
    )
    options |= {**form, **callable_tools, "model": model or first_model(client, "completion" if complete else "chat")}
    opening = [{"role": "system", "content": system}] if system else []
    messages = [*opening, {"role": "user", "content": given}]
    stream = (
        client.complete({"prompt": given, **options}) if complete else client.chat({"messages": messages, **options})
    )
    out_console, pieces = tools(ctx).out, _texts(stream, has_form=bool(form))
    if files is None:
        _print(out_console, pieces)
        return
    began = time.monotonic()
    path = files.write(0, "".join(pieces).encode())
    say_made(out_console, str(path), options["model"], seed, time.monotonic() - began)


def chat(
    ctx: typer.Context,
    *,
    model: ModelOption = None,
    system: SystemOption = None,
    max_tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    top_k: TopKOption = None,
    min_p: MinPOption = None,
    seed: SeedOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Chat in the terminal. Through pipes: one question a line in, plain answers out.

    Ctrl-C stops the answer, not the program. In the chat: /help, /model, /system, /reset, /save and /quit.
    """
    from services.cli.chat_session import ChatSession
    from services.cli.conversation import Conversation

    client = connect(ctx, url, api_key)
    options = _options(max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)
    conversation = Conversation(model or first_model(client, "chat"), system)
    out = tools(ctx).out
    interactive = sys.stdin.isatty() and out.is_terminal
    ChatSession(client, conversation, options, out, interactive=interactive).run()


def _print(console: Console, pieces: Iterable[str]) -> None:
    written = False
    try:
        for piece in pieces:
            print_piece(console, piece)
            written = True
    finally:
        if written:
            print_piece(console, "\n")


def _texts(stream: Iterable[Delta | End], *, has_form: bool) -> Iterator[str]:
    """The pieces of an answer. Raises CliError after one that was cut where half of it is of no use."""
    from services.cli.client import Delta

    for item in stream:
        if isinstance(item, Delta):
            yield item.text
        elif item.reason == "length" and (has_form or item.calls):
            raise CliError(
                "the answer reached the limit of tokens and is not whole: allow more with --max-tokens, or bound it, as"
                " maxLength and maxItems of a schema do"
            )


def _options(**given: object) -> dict[str, object]:
    return {key: value for key, value in given.items() if value not in (None, [])}
