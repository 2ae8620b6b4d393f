"""Owns the lines of a batch's files: what a line of the input must be, and how a result is written. Never sees a store.

The formats are OpenAI's: `{"custom_id", "method", "url", "body"}` in, `{"id", "custom_id", "response", "error"}` out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from pydantic_core import from_json

from shared.schemas.batches import BatchError

MAX_LINES = 50_000
MAX_NUMBER = 2 * MAX_LINES  # blank lines count here
MAX_PROBLEMS = 100  # told of one file
MAX_ID = 512  # characters
_KEYS = frozenset({"custom_id", "method", "url", "body"})


@dataclass(frozen=True, slots=True)
class Line:
    """One request. `number` counts the file's lines from 1; `body` is JSON."""

    number: int
    custom_id: str
    body: bytes


class BadLine(Exception):
    """A line that cannot be run."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def parse_line(number: int, raw: bytes, endpoint: str) -> Line:
    """Raises BadLine."""
    try:
        data: Any = from_json(raw)  # which bounds the depth, wherever it is called
    except ValueError:
        raise BadLine("invalid_json_line", "This line is not valid JSON in UTF-8.") from None
    if not isinstance(data, dict):
        raise BadLine("invalid_json_line", "This line is not a JSON object.")
    fields = cast(dict[str, Any], data)
    for name in ("custom_id", "method", "url", "body"):
        if name not in fields:
            raise BadLine("missing_required_parameter", f"Field '{name}' is required.", name)
    if unknown := sorted(fields.keys() - _KEYS):
        raise BadLine("unknown_parameter", f"Unknown field '{unknown[0][:64]}'.", unknown[0][:64])
    return Line(number, _custom_id(fields["custom_id"]), _body(fields, endpoint))


def _custom_id(custom_id: object) -> str:
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_ID:
        raise BadLine("invalid_custom_id", f"custom_id must be a string of 1 to {MAX_ID} characters.", "custom_id")
    return custom_id


def _body(fields: dict[str, Any], endpoint: str) -> bytes:
    body = fields["body"]
    if fields["method"] != "POST":
        raise BadLine("invalid_method", "method must be 'POST'.", "method")
    if fields["url"] != endpoint:
        raise BadLine("invalid_url", f"url must be the batch's endpoint, '{endpoint}'.", "url")
    if not isinstance(body, dict):
        raise BadLine("invalid_type", "body must be an object.", "body")
    if cast(dict[str, Any], body).get("stream"):
        raise BadLine("invalid_value", "A batch's requests are not streamed: leave stream out.", "body.stream")
    if cast(dict[str, Any], body).get("format") == "csv":
        raise BadLine("invalid_value", "A batch's answers are JSON: leave format out.", "body.format")
    return json.dumps(body, ensure_ascii=False).encode()


def custom_id_of(raw: bytes) -> str:
    """Of a line that was checked. Raises BadLine."""
    try:
        return _custom_id(from_json(raw)["custom_id"])
    except (ValueError, KeyError, TypeError):
        raise BadLine("invalid_json_line", "This line is not a JSON object with a custom_id.") from None


TOO_MANY = BatchError(
    code="too_many_lines",
    line=None,
    message=f"A batch may have at most {MAX_LINES} lines; the input file has more.",
    param=None,
)


class Checker:
    """Checks a whole input file, some lines at a time."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._ids: set[bytes] = set()
        self._problems: list[BatchError] = []
        self.total = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether enough is known to refuse the file."""
        return len(self._problems) >= MAX_PROBLEMS or self.total > MAX_LINES

    def check(self, lines: Sequence[tuple[int, bytes]]) -> Sequence[None]:
        """Of what is not blank. Gives nothing back, as a parser that keeps nothing."""
        for number, raw in lines:
            self.total += 1
            if self.is_hopeless:
                break
            try:
                self._note(parse_line(number, raw, self._endpoint))
            except BadLine as bad:
                self._problems.append(BatchError(code=bad.code, line=number, message=bad.message, param=bad.param))
        return ()

    def problems(self) -> Sequence[BatchError]:
        """Why the file cannot be run; empty if it can."""
        if self.total == 0:
            return [BatchError(code="empty_file", line=None, message="The input file holds no line.", param=None)]
        if self.total > MAX_LINES:
            return [TOO_MANY]
        return self._problems

    def _note(self, line: Line) -> None:
        key = sha256(line.custom_id.encode()).digest()[:16]
        if key in self._ids:
            raise BadLine("duplicate_custom_id", "An earlier line has the same custom_id.", "custom_id")
        self._ids.add(key)


def answered(batch: str, line: Line, *, status: int, request_id: str, body: bytes) -> str:
    """The result of a line that was answered, whatever the answer was. `body` is JSON."""
    if b"\n" in body or b"\r" in body:  # a result is one line
        body = json.dumps(json.loads(body)).encode()
    head = json.dumps({"id": _id(batch, line.number), "custom_id": line.custom_id})[:-1]
    response = json.dumps({"status_code": status, "request_id": request_id})[:-1]
    return f'{head}, "response": {response}, "body": {body.decode()}}}, "error": null}}'


def not_run(batch: str, number: int, custom_id: str, *, code: str, message: str) -> str:
    """The result of a line that was never answered."""
    error = {"code": code, "message": message}
    return json.dumps({"id": _id(batch, number), "custom_id": custom_id, "response": None, "error": error})


def _id(batch: str, number: int) -> str:
    """The same whenever a file is written again."""
    return f"batch_req_{sha256(f'{batch}/{number}'.encode()).hexdigest()[:32]}"
