"""Owns the step from a request of the Responses API to a chat that answers it, and from a chat's fields to its own."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from services.gateway.problems import CallFailed, failure_of
from services.gateway.validation import refusal_in
from shared.errors import ServiceError
from shared.events import Failed
from shared.schemas.responses import Format, InputMessage, ResponsesRequest, SchemaFormat
from shared.schemas.text import ChatRequest, TextRequest

_MESSAGE = re.compile(r"messages\[(\d+)\](.*)", re.DOTALL)
# What other fields of a chat are called here: the first that a path begins with stands.
_NAMES = (
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("logprobs", "include"),
    ("messages", "input"),
)


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What the fields of a chat are called in the request that it was made of.

    `sources` says of each message where its client wrote it.
    """

    sources: tuple[str, ...]

    def of(self, param: str | None) -> str | None:
        if param is None:
            return None
        if found := _MESSAGE.fullmatch(param):
            source = self.sources[int(found[1])]
            return source + found[2] if source.endswith("]") else source  # else it is a text, which has no fields
        for theirs, ours in _NAMES:
            if param == theirs or param.startswith(f"{theirs}."):
                return ours + param.removeprefix(theirs)
        return param

    def told(self, failure: Failed) -> Failed:
        """The failure of a chat as the client of this request reads it."""
        return replace(failure, param=self.of(failure.param))

    @contextmanager
    def kept(self) -> Generator[None]:
        """Failures in here name the request's own fields."""
        try:
            yield
        except (ServiceError, CallFailed) as error:
            failure = failure_of(error)
            if (told := self.told(failure)) == failure:
                raise
            raise CallFailed(told) from error


def as_chat(body: ResponsesRequest) -> tuple[ChatRequest, FieldNames]:
    """The same request as a chat: what is left out there is left out here. Raises CallFailed for what no chat takes."""
    messages, names = _messages(body)
    shared = body.model_fields_set & TextRequest.model_fields.keys()
    fields: dict[str, Any] = {name: getattr(body, name) for name in shared}
    fields["messages"] = messages
    if body.safety_identifier is not None and body.user is None:
        fields["user"] = body.safety_identifier
    if body.max_output_tokens is not None:
        fields["max_completion_tokens"] = body.max_output_tokens
    if body.wants_logprobs:
        fields |= {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
    if body.text is not None and body.text.format is not None:
        fields["response_format"] = _response_format(body.text.format)
    with names.kept():
        try:
            return ChatRequest(**fields), names
        except ValidationError as error:
            raise refusal_in(error, fields) from None


def _messages(body: ResponsesRequest) -> tuple[list[dict[str, Any]], FieldNames]:
    """The chat's messages, oldest first."""
    found: list[tuple[str, dict[str, Any]]] = []
    if body.instructions is not None:
        found.append(("instructions", {"role": "system", "content": body.instructions}))
    if isinstance(body.input, str):
        found.append(("input", {"role": "user", "content": body.input}))
    else:
        found += [(f"input[{i}]", {"role": item.role, "content": _text(item)}) for i, item in enumerate(body.input)]
    return [message for _, message in found], FieldNames(tuple(source for source, _ in found))


def _text(item: InputMessage) -> str:
    """Parts follow each other without a separator, as a chat's do."""
    return item.content if isinstance(item.content, str) else "".join(part.text for part in item.content)


def _response_format(given: Format) -> dict[str, Any]:
    if isinstance(given, SchemaFormat):
        schema = given.model_dump(by_alias=True, exclude={"type"}, exclude_unset=True)
        return {"type": "json_schema", "json_schema": schema}
    return {"type": given.type}
