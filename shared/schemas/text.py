"""Owns the text requests: chat, completions, tokenize, detokenize (OpenAI's wire format, plus sampling options)."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import Field, model_validator

from shared.schemas.common import RequestModel, refusal

Stop = Annotated[str, Field(min_length=1, max_length=256)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
MAX_CHOICES = 128
MAX_ROWS = 1024  # prompts times n in one request
MAX_COUNT = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Index = Annotated[int, Field(ge=0, le=MAX_COUNT)]
TokenId = Index
TokenIdList = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$", description="a token id")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]  # OpenAI's rule; templates may print it as markup
LogitBias = dict[TokenKey, Annotated[float, Field(ge=-100.0, le=100.0)]]


class TextPart(RequestModel):
    type: Literal["text"]
    text: str


class ChatMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=2048, fail_fast=True)]
    name: Name | None = None

    @property
    def text(self) -> str:
        """The content as one string; parts follow each other without a separator."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(RequestModel):
    include_usage: bool = False


class SamplingRequest(RequestModel):
    """How tokens are chosen. What is left out is as models.yaml says of the model, else OpenAI's default."""

    model: str = Field(min_length=1, max_length=256)
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = None
    seed: Seed | None = None
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: Index | None = None
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10.0)
    logit_bias: Annotated[LogitBias, Field(max_length=1024)] | None = None
    min_tokens: Index | None = None
    ignore_eos: bool = False
    user: str | None = Field(default=None, max_length=512)
    prompt_cache_key: str | None = Field(default=None, max_length=512)

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> SamplingRequest:
        if self.stream_options is not None and not self.stream:
            raise refusal("stream_options", "stream_options is only allowed when stream is true")
        return self


class ChatRequest(SamplingRequest):
    messages: list[ChatMessage] = Field(min_length=1, max_length=2048, fail_fast=True)
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def max_new_tokens(self) -> int | None:
        """None: up to the end of the context."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise refusal("top_logprobs", "top_logprobs is only allowed when logprobs is true")
        return self


class CompletionRequest(SamplingRequest):
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_ROWS, fail_fast=True)]
        | TokenIdList
        | Annotated[list[TokenIdList], Field(min_length=1, max_length=MAX_ROWS, fail_fast=True)]
    )
    max_tokens: Index = Field(default=16, description="0 with echo: the prompt alone, as where it is only scored")
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool = False

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts as a list of texts or a list of token lists."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [cast(list[int], self.prompt)]
        return cast(list[str] | list[list[int]], self.prompt)

    @model_validator(mode="after")
    def _an_answer_of_something(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo:
            raise refusal("max_tokens", "max_tokens may be 0 only where echo is true; else it is at least 1")
        return self

    @model_validator(mode="after")
    def _bounded_rows(self) -> CompletionRequest:
        rows = len(self.prompts) * self.n
        if rows > MAX_ROWS:
            raise refusal("n", f"prompts times n may be at most {MAX_ROWS}; got {rows}")
        return self


class TokenizeRequest(RequestModel):
    model: str = Field(min_length=1, max_length=256)
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048, fail_fast=True)] | None = None
    add_special_tokens: bool = True

    @model_validator(mode="after")
    def _one_input(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise refusal("prompt", "give exactly one of prompt and messages")
        return self


class DetokenizeRequest(RequestModel):
    model: str = Field(min_length=1, max_length=256)
    tokens: list[TokenId] = Field(fail_fast=True)
