"""Owns the step from a request of the Responses API to a chat that answers it, and from a chat's fields to its own."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from services.gateway.problems import CallFailed, failure_of
from services.gateway.validation import refusal_in
from shared.errors import InvalidRequest, ServiceError
from shared.events import Failed
from shared.schemas.response_items import InputCall, InputCallOutput, InputItem, InputMessage, text_of
from shared.schemas.responses import ChosenFunction, Format, ResponsesRequest, SchemaFormat
from shared.schemas.text import ChatRequest, TextRequest

_MESSAGE = re.compile(r"messages\[(\d{1,9})\](?:\.tool_calls\[(\d{1,9})\])?(.*)", re.DOTALL)
# What other fields of a chat, and of a message, are called here: the first that a path begins with stands.
_NAMES = (
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("logprobs", "include"),
    ("messages", "input"),
    ("tool_choice.function", "tool_choice"),
)
_PARTS = ((".function", ""), (".tool_call_id", ".call_id"), (".id", ".call_id"), (".tool_calls", ""))


@dataclass(slots=True)
class _Source:
    """Where a client wrote a message: its text, by what name, and each of its calls."""

    said: str
    content: str = "content"
    calls: list[str] = field(default_factory=list[str])

    def of(self, call: int | None, rest: str) -> str:
        """The path of a part: of the `call`, or of the message if that is None. A text has no parts."""
        item = self.said if call is None or call >= len(self.calls) else self.calls[call]
        parts = (*_PARTS, (".content", f".{self.content}"))
        return item + _renamed(rest, parts) if item.endswith("]") else item


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What the fields of a chat are called in the request that it was made of: `sources` are those of its messages."""

    sources: tuple[_Source, ...]

    def of(self, param: str | None) -> str | None:
        if param is None:
            return None
        if found := _MESSAGE.fullmatch(param):
            message, call, rest = int(found[1]), found[2], found[3]
            if message >= len(self.sources):  # another server's word
                return "input"
            return self.sources[message].of(None if call is None else int(call), rest)
        return re.sub(r"^(tools\[\d+\])\.function\b", r"\1", _renamed(param, _NAMES))

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
    """The same request as a chat: what is left out there is left out here.

    Raises InvalidRequest, in this request's names, for what no chat takes.
    """
    talk = _conversation(body)
    names = FieldNames(tuple(talk.sources))
    shared = body.model_fields_set & TextRequest.model_fields.keys()
    fields: dict[str, Any] = {name: getattr(body, name) for name in shared}
    fields |= {"messages": talk.messages, **_tools(body)}
    if body.safety_identifier is not None and body.user is None:
        fields["user"] = body.safety_identifier
    if body.max_output_tokens is not None:
        fields["max_completion_tokens"] = body.max_output_tokens
    if body.wants_logprobs:
        fields |= {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
    if body.text is not None and body.text.format is not None:
        fields["response_format"] = _response_format(body.text.format)
    try:
        return ChatRequest(**fields), names
    except ValidationError as error:
        refused = refusal_in(error, fields)
        raise InvalidRequest(refused.message, param=names.of(refused.param), code=refused.code) from None


class _Conversation:
    """Items as messages, oldest first. What the assistant said and called at one time is one message."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.sources: list[_Source] = []

    def add(self, source: str, item: InputItem) -> None:
        match item:
            case InputMessage(role="assistant") if self._only_calls():
                self.messages[-1]["content"] = text_of(item.content)
                self.sources[-1].said = source
            case InputMessage():
                self.say(source, item.role, content=text_of(item.content))
            case InputCall():
                if not self.messages or self.messages[-1]["role"] != "assistant":
                    self.say(source, "assistant", content=None)
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                self.messages[-1].setdefault("tool_calls", []).append(call)
                self.sources[-1].calls.append(source)
            case InputCallOutput():
                self.say(source, "tool", content=text_of(item.output), tool_call_id=item.call_id)
                self.sources[-1].content = "output"

    def say(self, source: str, role: str, **fields: Any) -> None:
        self.messages.append({"role": role, **fields})
        self.sources.append(_Source(source))

    def _only_calls(self) -> bool:
        return bool(self.messages) and "tool_calls" in self.messages[-1] and self.messages[-1]["content"] is None


def _conversation(body: ResponsesRequest) -> _Conversation:
    talk = _Conversation()
    if body.instructions is not None:
        talk.say("instructions", "system", content=body.instructions)
    if isinstance(body.input, str):
        talk.say("input", "user", content=body.input)
    else:
        for i, item in enumerate(body.input):
            talk.add(f"input[{i}]", item)
    return talk


def _tools(body: ResponsesRequest) -> dict[str, Any]:
    """Of no tools, only a choice that needs some is said: a chat refuses that."""
    choice = body.tool_choice
    if isinstance(choice, ChosenFunction):
        said: dict[str, Any] = {"tool_choice": {"type": "function", "function": {"name": choice.name}}}
    else:
        said = {} if choice is None else {"tool_choice": choice}
    if not body.tools:
        return {} if choice in ("auto", "none") else said
    if body.parallel_tool_calls is not None:
        said["parallel_tool_calls"] = body.parallel_tool_calls
    functions = (tool.model_dump(exclude={"type"}, exclude_unset=True) for tool in body.tools)
    return {"tools": [{"type": "function", "function": function} for function in functions], **said}


def _response_format(given: Format) -> dict[str, Any]:
    if isinstance(given, SchemaFormat):
        schema = given.model_dump(by_alias=True, exclude={"type"}, exclude_unset=True)
        return {"type": "json_schema", "json_schema": schema}
    return {"type": given.type}


def _renamed(path: str, names: Sequence[tuple[str, str]]) -> str:
    for theirs, ours in names:
        if path == theirs or path.startswith((f"{theirs}.", f"{theirs}[")):
            return ours + path.removeprefix(theirs)
    return path
