"""Owns JSON schemas in Markdown: a table of an object's fields, types in words, links. Never sees an operation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

COLUMNS = ("name", "type", "default", "limits", "description")
WORDS = {"array": "list", "binary": "file", "date": "date"}  # of types and formats
POWERS: Mapping[float, str] = {2**31 - 1: "2^31 - 1", 2**63: "2^63", -(2**63): "-2^63"}
ENDS = {"at least": "min", "over": "exclusiveMin", "at most": "max", "under": "exclusiveMax"}
UNITS = {"imum": "", "Length": "characters", "Items": "items", "Properties": "fields"}  # what an end's name ends in
Json = Mapping[str, Any]


def fields_table(schema: Json) -> str:
    """Without the columns that say nothing; empty if the object has no fields."""
    rows: list[tuple[str, ...]] = []
    for name, field in schema["properties"].items():
        is_required = name in schema.get("required", ())
        default = "" if field.get("default") is None else f"`{json.dumps(field['default'])}`"
        limits, about = ("; ".join(dict.fromkeys(words)) for words in (_limits(field), _about(field)))
        kind = type_of(field, may_be_null=is_required)
        rows.append((f"`{name}`", kind, "required" if is_required else default, limits, about))
    used = [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]
    return table([COLUMNS[i] for i in used], ([row[i] for i in used] for row in rows)) if rows else ""


def type_of(schema: Json, *, may_be_null: bool = True) -> str:
    """In words, or a link to the schema that it has by name. Empty where nothing is said of it."""
    if name := name_of(schema):
        return link(name)
    if branches := _branches(schema):
        given = (each for each in branches if may_be_null or each != {"type": "null"})
        *most, last = dict.fromkeys(map(type_of, given))
        return f"{', '.join(most)} or {last}" if most else last
    kind = WORDS.get(schema.get("format", "")) or WORDS.get(schema.get("type", "")) or schema.get("type", "")
    inner = "".join(map(type_of, _inner(schema)))
    return f"{kind} of {f'({inner})' if ' or ' in inner else inner}" if inner else kind


def name_of(schema: Json) -> str:
    """Of a schema that is given by reference; else empty."""
    return schema.get("$ref", "").rpartition("/")[2]


def link(heading: str) -> str:
    """To a heading of the same page, by the anchor that GitHub makes of it."""
    anchor = re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
    return f"[{heading}](#{anchor})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {line} |" for line in lines)])


def _limits(schema: Json) -> Iterator[str]:
    for each in _branches(schema):
        yield from _limits(each)
    if options := schema.get("enum", [schema["const"]] if "const" in schema else []):
        named = ", ".join(f"`{each if isinstance(each, str) else json.dumps(each)}`" for each in options)
        yield f"{'one of' if len(options) > 1 else 'only'} {named}"
    if "pattern" in schema:
        yield f"matches `{schema['pattern']}`"
    for what, unit in UNITS.items():
        bounds = {word: _number(schema[end + what]) for word, end in ENDS.items() if end + what in schema}
        is_range = bounds.keys() == {"at least", "at most"}
        words = " to ".join(bounds.values()) if is_range else ", ".join(map(" ".join, bounds.items()))
        if words:
            yield f"{words} {unit.removesuffix('s') if words.endswith(' 1') else unit}".strip()
    for each in _inner(schema):
        if limits := ", ".join(_limits(each)):
            yield f"each {limits}"


def _about(schema: Json) -> Iterator[str]:
    """What is said of a value; if nothing, of its parts."""
    if text := " ".join(schema.get("description", "").split()):
        yield text
        return
    if keys := schema.get("propertyNames", {}).get("description"):
        yield f"by {keys}"
    for each in (*_branches(schema), *_inner(schema)):
        yield from _about(each)


def _branches(schema: Json) -> Sequence[Json]:
    """Of a value that is one of several kinds; else none."""
    return schema.get("anyOf") or schema.get("oneOf") or ()


def _inner(schema: Json) -> list[Json]:
    """What a list's items, or an object's values, are; none where that is not said."""
    given = [schema.get("items"), schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    return [each for each in given if isinstance(each, dict)]


def _number(value: float) -> str:
    return POWERS.get(value) or f"{int(value) if value == int(value) else value:,}"
