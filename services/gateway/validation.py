"""Owns the step from pydantic's errors to one refusal with a code and a path. Never echoes a client's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from shared.errors import InvalidRequest

MAX_NAME = 64
MAX_DEPTH = 200  # arrays and objects in each other, the body's own included: pydantic's parser ends there
MAX_ERRORS = 5000  # describing each takes longer than finding them all, and holds up every other request
LENGTH_ERRORS = frozenset({"too_long", "too_short", "string_too_long", "string_too_short"})


@dataclass(frozen=True, slots=True)
class _Problem:
    """One of pydantic's errors, its place in the data told apart from the names of union branches."""

    path: tuple[str | int, ...]
    union_at: int | None  # how long the path was where the first union branched
    branch: str
    details: ErrorDetails

    @property
    def progress(self) -> tuple[bool, bool, int, tuple[int, ...]]:
        """How far its branch of the union matched before it failed: a list that is only too long matched best."""
        at_union = len(self.path) == self.union_at
        indices = tuple(part for part in self.path if isinstance(part, int))
        is_length = self.details["type"] in LENGTH_ERRORS
        return (is_length, not (at_union and self.is_of_type), len(self.path), indices)

    @property
    def is_of_type(self) -> bool:
        """Whether another type of value was wanted."""
        return self.details["type"].endswith("_type")


def refusal_of(error: ValidationError, body: bytes) -> InvalidRequest:
    """What was wrong with a JSON body."""
    if error.error_count() == 1:
        (only,) = error.errors(include_url=False)
        if only["type"] == "json_invalid":
            reason = only["msg"].removeprefix("Invalid JSON: ")
            if reason.startswith("recursion limit exceeded"):
                message = f"The body may be nested at most {MAX_DEPTH} deep."
                return InvalidRequest(message, code="invalid_json")
            return InvalidRequest(f"The body is not valid JSON in UTF-8: {reason}.", code="invalid_json")
    return refusal_in(error, None if error.error_count() > MAX_ERRORS else from_json(body))


def refusal_in(error: ValidationError, data: Any) -> InvalidRequest:
    """The first problem of `data`, in the order of the fields; of a union, the branch that matched furthest.

    So it is again where that branch holds a union, as a list of texts or objects does.
    """
    if error.error_count() > MAX_ERRORS:
        return InvalidRequest(f"The body has {error.error_count()} unknown or invalid fields.")
    errors = error.errors(include_url=False)
    first = _locate(errors[0], data)
    if first.union_at is None:
        return _refuse(first, [first])
    branches = _branches(errors, data, first)
    begins = max((problems[0] for problems in branches), key=lambda problem: problem.progress)
    inside = next(problems for problems in branches if problems[0] is begins)
    here = [problem for problem in inside if problem.path[: len(begins.path)] == begins.path]
    chosen = max(here, key=lambda problem: (len(problem.path), not problem.is_of_type))
    return _refuse(chosen, [*here, *(problems[0] for problems in branches)])


def _locate(details: ErrorDetails, data: Any) -> _Problem:
    """Walk the data along pydantic's location; what is neither a key nor an index there names a union's branch."""
    path: list[str | int] = []
    union_at: int | None = None
    branch = ""
    location = details["loc"]
    for i, part in enumerate(location):
        is_last = i == len(location) - 1
        if isinstance(data, dict) and part in data:
            path.append(part)
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int):
            path.append(part)
            data = data[part] if part < len(data) else None
        elif is_last and details["type"] == "missing":
            path.append(part)
        elif part != "[key]" and union_at is None:
            union_at, branch = len(path), str(part)
    return _Problem(tuple(path), union_at, branch, details)


def _branches(errors: Sequence[ErrorDetails], data: Any, first: _Problem) -> list[list[_Problem]]:
    """The problems of each branch of the union that `first` is in."""
    prefix = first.details["loc"][: first.union_at]
    branches: dict[str, list[_Problem]] = {}
    for details in errors:
        if details["loc"][: len(prefix)] == prefix:
            problem = _locate(details, data)
            branches.setdefault(problem.branch, []).append(problem)
    return list(branches.values())


def _refuse(problem: _Problem, rivals: Sequence[_Problem]) -> InvalidRequest:
    details = problem.details
    kind = details["type"]
    param = _render(problem.path)
    if kind == "extra_forbidden":
        return InvalidRequest(f"Unknown field '{param}'.", param=param, code="unknown_parameter")
    if kind == "missing":
        return InvalidRequest(f"Field '{param}' is required.", param=param, code="missing_required_parameter")
    if kind == "refused":
        context = details.get("ctx", {})
        return InvalidRequest(_sentence(str(context["message"])), param=_render((*problem.path, str(context["param"]))))
    message = details["msg"]
    if problem.is_of_type:
        same = (rival.details["msg"] for rival in rivals if rival.path == problem.path and rival.is_of_type)
        message = " or ".join(dict.fromkeys([message, *same]))
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    where = f"Field '{param}': " if param else "The body: "
    return InvalidRequest(f"{where}{message}; got {_describe(details['input'])}.", param=param or None, code=code)


def _render(path: Sequence[str | int]) -> str:
    """A path as a client writes it: `messages[0].content`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:MAX_NAME]}" if text else part[:MAX_NAME]
    return text


def _describe(value: object) -> str:
    """Name what was got: numbers by value, texts and containers by size alone."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)[:24]
        case str():
            return f"a string of {len(value)} characters"
        case list():
            return f"an array of {len(value)}"
        case _:
            return "an object"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
