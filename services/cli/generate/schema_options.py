"""Owns options of the command line that are made from a request's schema. What is left out is left to the server."""

from __future__ import annotations

from collections.abc import Set
from inspect import Parameter
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape

SHORT = {"n": ("--n", "-n")}
# Of fields that most requests have, and describe by their name alone.
USUAL_HELP = {
    "n": "How many.",
    "seed": "The same seed makes the same; without it, one is drawn and told.",
    "temperature": "Spread of what is drawn.",
    "top_p": "Choose among this share of probability.",
    "top_k": "Choose among this many tokens.",
    "min_p": "Drop tokens below this share of the likeliest.",
    "genre": "What sort of it.",
    "prompt": "What it begins with.",
    "quantiles": "A share of what may come; may be given again.",
    "voice": "Whose voice; a refusal names those that the model has.",
    "speed": "1 is as is.",
    "attempts": "How often one that is not well-formed is drawn anew.",
    "valid_only": "Draw anew what is not valid.",
    "properties": "Tell properties as well.",
}


def options_of(request: type[BaseModel], hidden: Set[str]) -> list[Parameter]:
    """An option for each field that is not `hidden`; its bounds are the server's to check."""
    fields = ((name, field) for name, field in request.model_fields.items() if name not in hidden)
    return [_option(name, field) for name, field in fields]


def _option(name: str, field: FieldInfo) -> Parameter:
    usual = "" if field.is_required() or field.default in (None, "", False) else escape(f"[{_plain(field.default)}]")
    words = USUAL_HELP.get(name) or field.description or ""
    shown = typer.Option(*SHORT.get(name, ()), help=f"{escape(words[:1].upper() + words[1:])} {usual}".strip())
    given = _type_of(field.annotation)
    default = Parameter.empty if field.is_required() else None
    annotation = Annotated[given if field.is_required() else given | None, shown]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _type_of(annotation: Any) -> Any:
    """What a shell gives for it: of several types the first, of a tuple a list."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_of(arguments[0])
    if origin in (Union, UnionType):
        return _type_of(next(each for each in arguments if each is not NoneType))
    return list[_type_of(arguments[0])] if origin is tuple else annotation


def _plain(default: object) -> str:
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
