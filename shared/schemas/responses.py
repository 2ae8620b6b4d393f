"""Owns the request of OpenAI's Responses API: the answer's form, functions, options, and what is not kept here.

The gateway answers it as a chat. It keeps nothing of prompts and answers: a conversation comes whole, as input items.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from shared.schemas.batches import MAX_METADATA, MetadataKey, MetadataValue
from shared.schemas.common import RequestModel, refusal
from shared.schemas.forms import NamedSchema
from shared.schemas.response_items import InputItem, by_type
from shared.schemas.text import Count, TextRequest
from shared.schemas.tools import MAX_TOOLS, FunctionDefinition, FunctionName

MAX_ITEMS = 2047  # with the instructions, as many as a chat may have messages
LOGPROBS = "message.output_text.logprobs"
Summary = Literal["auto", "concise", "detailed"]


def _only(*allowed: object, instead: str) -> BeforeValidator:
    """Refuses all other values, and says what to do instead."""

    def check(value: object) -> object:
        if value not in allowed:
            raise PydanticCustomError("not_here", "{instead}", {"instead": instead})
        return value

    return BeforeValidator(check)


class PlainFormat(RequestModel):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(NamedSchema):
    """JSON by a schema, which is always followed, whether `strict` or not."""

    type: Literal["json_schema"]


Format = Annotated[
    Annotated[PlainFormat, Tag("text")]
    | Annotated[PlainFormat, Tag("json_object")]
    | Annotated[SchemaFormat, Tag("json_schema")],
    by_type("a form's type is 'text', 'json_object' or 'json_schema'"),
]


class TextOptions(RequestModel):
    format: Format | None = Field(default=None, description="the form that the answer must have")
    verbosity: Literal["low", "medium", "high"] | None = Field(
        default=None, description="a hint that no model here reads"
    )


def _is_function(value: object) -> object:
    if isinstance(value, dict) and value.get("type") != "function":
        raise PydanticCustomError("not_here", "functions alone are called here: a tool's type is 'function'")
    return value


class Function(FunctionDefinition):
    """A function that the model may call."""

    type: Literal["function"]


class ChosenFunction(RequestModel):
    """The one function that must be called."""

    type: Literal["function"]
    name: FunctionName


class Reasoning(RequestModel):
    """Hints to models that reason before they answer. No model here does so apart from its answer: nothing follows."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None


class ResponseStreamOptions(RequestModel):
    include_obfuscation: Literal[False] | None = Field(default=None, description="events are not padded here")


class ResponsesRequest(TextRequest):
    """What is not OpenAI's is as in `ChatRequest`."""

    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)] = Field(
        description="what the user says, or the whole conversation, oldest first"
    )
    instructions: str | None = Field(default=None, description="a system message that goes before the input")
    max_output_tokens: Count | None = Field(
        default=None, description="the longest answer; without it, up to the end of the context"
    )
    text: TextOptions | None = Field(default=None, description="what kind of text the answer is")
    tools: (
        Annotated[list[Annotated[Function, BeforeValidator(_is_function)]], Field(max_length=MAX_TOOLS, fail_fast=True)]
        | None
    ) = Field(default=None, description="functions that the model may call")
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | None = Field(
        default=None, description="whether the model may or must call, or which; without it `auto`"
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="whether an answer may call more than once; without it, it may"
    )
    include: (
        Annotated[
            list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]],
            Field(max_length=16, fail_fast=True),
        ]
        | None
    ) = Field(
        default=None,
        description="`message.output_text.logprobs`: say of each token how likely it was; "
        "`reasoning.encrypted_content`: there is none",
    )
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="and of so many of the likeliest in its place; only with such an include"
    )
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA)] | None = Field(
        default=None, description="given back with the answer"
    )
    safety_identifier: str | None = Field(default=None, max_length=512, description="as `user`, its newer name")
    reasoning: Reasoning | None = Field(default=None, description="hints that no model here reads")
    stream_options: ResponseStreamOptions | None = Field(default=None, description="only with `stream`")
    service_tier: Literal["auto", "default"] | None = Field(default=None, description="there is one")
    truncation: Annotated[
        Literal["disabled"] | None,
        _only(None, "disabled", instead="a conversation is never cut here: send no more of it than fits the context"),
    ] = Field(default=None, description="a conversation that is too long is refused")
    store: Annotated[
        Literal[False] | None,
        _only(None, False, instead="answers are not kept here: send false, and the whole conversation as input"),
    ] = Field(default=None, description="answers are not kept, also where this is left out")
    previous_response_id: Annotated[
        None, _only(None, instead="answers are not kept here: send the whole conversation as input, answers included")
    ] = Field(default=None, description="answers are not kept: send them as input items")
    conversation: Annotated[
        None, _only(None, instead="conversations are not kept here: send the whole conversation as input")
    ] = Field(default=None, description="conversations are not kept: send them as input items")
    prompt: Annotated[None, _only(None, instead="prompts are not kept here: send instructions and input")] = Field(
        default=None, description="prompts are not kept: send `instructions` and `input`"
    )
    background: Annotated[
        Literal[False] | None,
        _only(None, False, instead="nothing runs in the background here: use stream, or a batch at /v1/batches"),
    ] = Field(default=None, description="answers are awaited; what can wait for hours is for `/v1/batches`")

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    @model_validator(mode="after")
    def _fields_belong_together(self) -> ResponsesRequest:
        if self.text is not None and self.text.format is not None and self.structured_outputs is not None:
            raise refusal("structured_outputs", "structured_outputs is not allowed with text.format: give one")
        if self.top_logprobs and not self.wants_logprobs:
            raise refusal("top_logprobs", f"top_logprobs is only allowed when include has '{LOGPROBS}'")
        if self.stream_options is not None and not self.stream:
            raise refusal("stream_options", "stream_options is only allowed when stream is true")
        return self
