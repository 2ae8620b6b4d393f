"""Owns the options that hold an answer to a form and say what it may call: files in, fields of a request out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Never

import typer

from services.cli.context import CliError

FORM = "Form of the answer (the model is not told of it: say in the prompt what is wanted)"
TOOLS = "Tools"
CHOICES = ("auto", "required", "none")  # any other choice is a function's name

SchemaOption = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE.json", help="JSON by the JSON schema in this file.", rich_help_panel=FORM),
]
AnyJsonOption = Annotated[bool, typer.Option("--json", help="A JSON object.", rich_help_panel=FORM)]
RegexOption = Annotated[
    str | None, typer.Option("--regex", help="What this expression matches as a whole.", rich_help_panel=FORM)
]
ChoiceOption = Annotated[
    list[str] | None, typer.Option("--choice", help="One of these texts; give it for each.", rich_help_panel=FORM)
]
ToolsOption = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        metavar="FILE.json",
        help="What it may call: a list of functions as OpenAI defines them. Calls are printed, a line each, not made.",
        rich_help_panel=TOOLS,
    ),
]
ToolChoiceOption = Annotated[
    str | None,
    typer.Option(
        "--tool-choice",
        metavar="|".join((*CHOICES, "NAME")),
        help=r"Whether it may or must call, or which function. \[auto]",
        rich_help_panel=TOOLS,
    ),
]


def form_fields(
    *, schema: Path | None, any_json: bool, regex: str | None, choices: list[str] | None, complete: bool
) -> dict[str, object]:
    """The fields of a chat, or of a completion, which says every form by `structured_outputs`. Raises CliError."""
    options = {"--schema": schema, "--json": any_json or None, "--regex": regex, "--choice": choices or None}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise CliError(f"an answer has one form: give only one of {', '.join(given)}")
    if regex is not None:
        return {"structured_outputs": {"regex": regex}}
    if choices:
        return {"structured_outputs": {"choice": choices}}
    if schema is not None:
        read = _read_json(schema)
        if not isinstance(read, dict):
            raise CliError(f'{schema} holds no JSON schema: expected an object, as {{"type": "object", ...}}')
        named = {"type": "json_schema", "json_schema": {"name": "answer", "schema": read}}
        return {"structured_outputs": {"json": read}} if complete else {"response_format": named}
    if any_json:
        whole = {"json": {"type": "object"}}
        return {"structured_outputs": whole} if complete else {"response_format": {"type": "json_object"}}
    return {}


def tool_fields(tools: Path | None, choice: str | None, *, complete: bool) -> dict[str, object]:
    """The fields of a chat. Raises CliError."""
    if tools is None:
        if choice is not None:
            raise CliError("--tool-choice chooses among tools: name a file of them with --tools")
        return {}
    if complete:
        raise CliError("--tools goes with chat answers; --complete goes on with the prompt as it is")
    read = _read_json(tools)
    if not isinstance(read, list):
        example = '[{"type": "function", "function": {"name": "weather", "parameters": {...}}}]'
        raise CliError(f"{tools} holds no list of tools: expected {example}")
    if choice is None:
        return {"tools": read}
    named = {"type": "function", "function": {"name": choice}}
    return {"tools": read, "tool_choice": choice if choice in CHOICES else named}


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CliError(f"{path} is not JSON: {error}") from error


def _refuse(constant: str) -> Never:
    """Python reads NaN and Infinity, which no JSON has and no request can carry."""
    raise ValueError(f"{constant} is no number")
