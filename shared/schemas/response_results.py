"""Owns what the gateway answers to the Responses API: the response object, and the events of its stream.

The gateway writes these bodies by hand; the classes document them in `/openapi.json` and check them in tests.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from shared.schemas.common import ErrorDetail, ResponseModel
from shared.schemas.response_items import ItemStatus


class ResponseTopLogprob(ResponseModel):
    token: str
    bytes: list[int]
    logprob: float


class ResponseLogprob(ResponseTopLogprob):
    top_logprobs: list[ResponseTopLogprob]


class OutputTextPart(ResponseModel):
    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]  # none here
    logprobs: list[ResponseLogprob]


class OutputMessage(ResponseModel):
    """What the model said. Empty where it said nothing."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[OutputTextPart]


class OutputCall(ResponseModel):
    """A function that the client should call. What it gave comes back as an item with the same `call_id`."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str  # JSON text


OutputItem = OutputMessage | OutputCall


class ResponseInputDetails(ResponseModel):
    """`cached_tokens` of the input were not read again: the tenant's earlier prompts begin with the same tokens."""

    cached_tokens: int
    cache_write_tokens: Literal[0]


class ResponseOutputDetails(ResponseModel):
    reasoning_tokens: Literal[0]


class ResponseUsage(ResponseModel):
    """Token counts."""

    input_tokens: int
    input_tokens_details: ResponseInputDetails
    output_tokens: int
    output_tokens_details: ResponseOutputDetails
    total_tokens: int


class ResponseFailure(ResponseModel):
    """Why a streamed response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str
    param: str | None
    type: str


class IncompleteDetails(ResponseModel):
    """`max_output_tokens`: these, or the model's context, were spent."""

    reason: Literal["max_output_tokens", "content_filter"]


class TextFormatGiven(ResponseModel):
    format: dict[str, Any]


class ReasoningGiven(ResponseModel):
    effort: None
    summary: None


class ResponseObject(ResponseModel):
    """An answer, and what it was asked with. `created_at` is in seconds since the epoch. It is not kept here."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: None
    prompt_cache_key: str | None
    reasoning: ReasoningGiven
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: Literal[False]
    temperature: float | None
    text: TextFormatGiven
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None


class NumberedEvent(ResponseModel):
    sequence_number: int


class ResponseEvent(NumberedEvent):
    """The response as it stands: `created` and `in_progress` come first, `completed`, `incomplete` or `failed` last."""

    type: Literal[
        "response.created", "response.in_progress", "response.completed", "response.incomplete", "response.failed"
    ]
    response: ResponseObject


class OutputItemEvent(NumberedEvent):
    """An item of the output as it begins, and as it is done."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class _InItem(NumberedEvent):
    item_id: str
    output_index: int


class ContentPartEvent(_InItem):
    """A message's text as it begins, and as it is done."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: int
    part: OutputTextPart


class OutputTextDeltaEvent(_InItem):
    """Text that follows the message's earlier text."""

    type: Literal["response.output_text.delta"]
    content_index: int
    delta: str
    logprobs: list[ResponseLogprob]


class OutputTextDoneEvent(_InItem):
    """All of a message's text."""

    type: Literal["response.output_text.done"]
    content_index: int
    text: str
    logprobs: list[ResponseLogprob]


class CallArgumentsDeltaEvent(_InItem):
    """JSON text that follows the call's earlier."""

    type: Literal["response.function_call_arguments.delta"]
    delta: str


class CallArgumentsDoneEvent(_InItem):
    """All of a call's arguments."""

    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class ResponseErrorEvent(NumberedEvent):
    """What follows `response.failed`, before the connection is cut. The fields of `error` stand beside it, too."""

    type: Literal["error"]
    code: str | None
    message: str
    param: str | None
    error: ErrorDetail


EVENTS: tuple[type[BaseModel], ...] = (
    ResponseEvent,
    OutputItemEvent,
    ContentPartEvent,
    OutputTextDeltaEvent,
    OutputTextDoneEvent,
    CallArgumentsDeltaEvent,
    CallArgumentsDoneEvent,
    ResponseErrorEvent,
)
