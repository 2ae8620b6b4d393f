"""Owns the input items of OpenAI's Responses API: what was said, which functions were called, and what they gave."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from shared.schemas.common import RequestModel
from shared.schemas.tools import MAX_ARGUMENTS, FunctionName

ItemId = Annotated[str, Field(max_length=256, description="as an answer has it; not read")]
CallId = Annotated[str, Field(min_length=1, max_length=256, description="which call it is, as an answer has it")]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


def by_type(message: str, *, default: str | None = None) -> Discriminator:
    """Tells the branches of a union by their `type`, or the `default` one. The refusal of another is `message`."""

    def tag(value: object) -> str | None:
        kind: object = value.get("type", default) if isinstance(value, dict) else getattr(value, "type", None)
        return kind if isinstance(kind, str) else None

    return Discriminator(tag, custom_error_type="unknown_kind", custom_error_message=message)


class InputText(RequestModel):
    type: Literal["input_text"]
    text: str


class OutputText(RequestModel):
    """A part of an earlier answer, as that answer had it. Only its text is read."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


Part = Annotated[
    Annotated[InputText, Tag("input_text")] | Annotated[OutputText, Tag("output_text")],
    by_type("only text is read here: a part's type is 'input_text' or 'output_text'"),
]
Content = str | Annotated[list[Part], Field(min_length=1, max_length=2048, fail_fast=True)]


def text_of(content: Content) -> str:
    """As one string; parts follow each other without a separator."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


class InputMessage(RequestModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    id: ItemId | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = Field(default=None, description="not read")


class InputCall(RequestModel):
    """A call of a function that an earlier answer made, as that answer had it."""

    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: str = Field(max_length=MAX_ARGUMENTS, description="JSON text")
    id: ItemId | None = None
    status: ItemStatus | None = None


class InputCallOutput(RequestModel):
    """What the function gave: an item after the call, and after the calls that were made with it."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Content
    id: ItemId | None = None
    status: ItemStatus | None = None


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputCallOutput, Tag("function_call_output")],
    by_type("an item's type is 'message', 'function_call' or 'function_call_output' here", default="message"),
]
