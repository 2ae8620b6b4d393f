"""Owns the request of OpenAI's Responses API: input items, the answer's form, and what is not kept here.

The gateway answers it as a chat. It keeps nothing of prompts and answers: a conversation comes whole, as input items.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from shared.schemas.batches import MAX_METADATA, MetadataKey, MetadataValue
from shared.schemas.common import RequestModel, refusal
from shared.schemas.forms import NamedSchema
from shared.schemas.text import Count, TextRequest

MAX_ITEMS = 2047  # with the instructions, as many as a chat may have messages
LOGPROBS = "message.output_text.logprobs"

ItemId = Annotated[str, Field(max_length=256, description="as an answer has it; not read")]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Summary = Literal["auto", "concise", "detailed"]


def _only(*allowed: object, instead: str) -> BeforeValidator:
    """Refuses all other values, and says what to do instead."""

    def check(value: object) -> object:
        if value not in allowed:
            raise PydanticCustomError("not_here", "{instead}", {"instead": instead})
        return value

    return BeforeValidator(check)


def _by_type(message: str) -> Discriminator:
    """Tells the branches of a union by their `type`. The refusal of another type is `message`."""

    def tag(value: object) -> str | None:
        kind: object = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
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
    _by_type("only text is read here: a part's type is 'input_text' or 'output_text'"),
]


class InputMessage(RequestModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=2048, fail_fast=True)]
    id: ItemId | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = Field(default=None, description="not read")


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
    _by_type("a form's type is 'text', 'json_object' or 'json_schema'"),
]


class TextOptions(RequestModel):
    format: Format | None = Field(default=None, description="the form that the answer must have")
    verbosity: Literal["low", "medium", "high"] | None = Field(
        default=None, description="a hint that no model here reads"
    )


class Reasoning(RequestModel):
    """Hints to models that reason before they answer. No model here does so apart from its answer: nothing follows."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None


class ResponseStreamOptions(RequestModel):
    include_obfuscation: Literal[False] | None = Field(default=None, description="events are not padded here")


class ResponsesRequest(TextRequest):
    """What is not OpenAI's is as in `ChatRequest`."""

    input: str | Annotated[list[InputMessage], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)] = Field(
        description="what the user says, or the whole conversation, oldest first"
    )
    instructions: str | None = Field(default=None, description="a system message that goes before the input")
    max_output_tokens: Count | None = Field(
        default=None, description="the longest answer; without it, up to the end of the context"
    )
    text: TextOptions | None = Field(default=None, description="what kind of text the answer is")
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
