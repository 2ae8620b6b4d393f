"""Owns the text responses: what the gateway answers to chat, completions, tokenize and detokenize.

The gateway writes these bodies from templates; the classes document them in `/openapi.json` and check them in tests.
"""

from __future__ import annotations

from typing import Literal

from shared.schemas.common import ResponseModel

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class PromptTokensDetails(ResponseModel):
    """`cached_tokens` of the prompt were not read again: the tenant's earlier prompts begin with the same tokens."""

    cached_tokens: int


class Usage(ResponseModel):
    """Token counts. A prompt counts once, however many choices were made of it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(ResponseModel):
    token: str
    bytes: list[int]
    logprob: float


class ChatLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(ResponseModel):
    content: list[ChatLogprob]
    refusal: None = None


class CalledFunctionResult(ResponseModel):
    name: str
    arguments: str


class ToolCallResult(ResponseModel):
    """A call of a tool. `arguments` is JSON text, as the model wrote it."""

    id: str
    type: Literal["function"]
    function: CalledFunctionResult


class AssistantMessage(ResponseModel):
    """`content` is null, and `tool_calls` there, where the model calls tools and says nothing else."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCallResult] | None = None


class ChatChoice(ResponseModel):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(ResponseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChatChoice]
    usage: Usage


class CalledFunctionPiece(ResponseModel):
    name: str | None = None
    arguments: str


class ToolCallPiece(ResponseModel):
    """`id`, `type` and `name` come with a call's first piece; its `arguments` follow each other."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunctionPiece


class ChatDelta(ResponseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[ToolCallPiece] | None = None


class ChatChunkChoice(ResponseModel):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(ResponseModel):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class CompletionLogprobs(ResponseModel):
    """Parallel lists, one entry a token. `text_offset` counts characters from the start of the choice's text.

    An echoed prompt's first token follows nothing, so its log-probability is null.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(ResponseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None  # null in the chunks of a stream before the choice's last


class Completion(ResponseModel):
    """A completion, and each chunk of a streamed one (`usage` is then null or absent before the last)."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[CompletionChoice]
    usage: Usage | None = None


class Tokens(ResponseModel):
    model: str
    tokens: list[int]
    token_strings: list[str]
    count: int


class Detokenized(ResponseModel):
    model: str
    prompt: str
