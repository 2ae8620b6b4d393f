"""Owns what the reading of calls needs to know of JSON: where an object ends, piece by piece, and what one says."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, cast


class Nesting(NamedTuple):
    """Where a text of JSON stands: how many braces and brackets are open, and whether in a string."""

    depth: int = 0
    in_string: bool = False
    is_escaped: bool = False


_SPACES = re.compile(r"\s*")
_NOTABLE = re.compile(r'["\\{}\[\]]')


def spaces(text: str, at: int) -> int:
    """Where the next character is that is no space."""
    return cast(re.Match[str], _SPACES.match(text, at)).end()


def pass_json(text: str, at: int, nesting: Nesting) -> tuple[Nesting, int | None]:
    """Pass JSON from `at` on: where it stands, and where it ends, behind the bracket that closes the first one."""
    depth, in_string, is_escaped = nesting
    while at < len(text):
        if is_escaped:
            is_escaped, at = False, at + 1
            continue
        found = _NOTABLE.search(text, at)
        if found is None:
            break
        at, mark = found.end(), found[0]
        if mark == "\\":
            is_escaped = in_string
        elif mark == '"':
            in_string = not in_string
        elif not in_string:
            depth += 1 if mark in "{[" else -1
            if depth <= 0:
                return Nesting(), at
    return Nesting(depth, in_string, is_escaped), None


def call_of(text: str) -> tuple[str, str] | None:
    """Name and arguments of a call's object; None where it is none."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fields = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    arguments = fields.get("arguments", fields.get("parameters", {}))
    if not (isinstance(fields.get("name"), str) and isinstance(arguments, dict)):
        return None
    return fields["name"], json.dumps(arguments, ensure_ascii=False)
