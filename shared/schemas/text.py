"""Owns the text requests: chat, completions, tokenize, detokenize (OpenAI's wire format, plus sampling options)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field, model_validator

from shared.schemas.common import RequestModel, refusal
from shared.schemas.forms import AnswerForm, ResponseFormat, StructuredOutputs
from shared.schemas.tools import MAX_TOOLS, FunctionTool, ToolCall, ToolChoice, Tools, check_tools

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


Content = str | Annotated[list[TextPart], Field(min_length=1, max_length=2048, fail_fast=True)]


def text_of(content: Content | None) -> str:
    """The content as one string; parts follow each other without a separator."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


class ChatMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = Field(
        default=None, description="what was said; null only where the assistant calls tools"
    )
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)] | None = Field(
        default=None, description="the tools that the assistant called, as its answer had them"
    )
    tool_call_id: str | None = Field(
        default=None, min_length=1, max_length=256, description="of a tool's message: the call whose result it is"
    )
    refusal: None = Field(default=None, description="as answers have it")
    # The official client sends these along with an answer that it has gathered from a stream.
    annotations: None = Field(default=None, exclude=True)
    audio: None = Field(default=None, exclude=True)
    function_call: None = Field(default=None, exclude=True)
    parsed: Any = Field(
        default=None, exclude=True, description="what the official client made of it, which is not read"
    )

    @property
    def text(self) -> str:
        return text_of(self.content)

    @property
    def calls(self) -> list[ToolCall]:
        return self.tool_calls or []

    @model_validator(mode="after")
    def _what_its_role_has(self) -> ChatMessage:
        if self.tool_calls is not None and self.role != "assistant":
            raise refusal("tool_calls", "tool_calls are only allowed in messages of the role 'assistant'")
        if self.tool_call_id is not None and self.role != "tool":
            raise refusal("tool_call_id", "tool_call_id is only allowed in messages of the role 'tool'")
        if self.tool_call_id is None and self.role == "tool":
            raise refusal("tool_call_id", "a message of the role 'tool' needs the tool_call_id that it answers")
        if self.content is None and self.tool_calls is None:
            raise refusal("content", "content is required, but where the assistant calls tools")
        return self


def check_results(messages: list[ChatMessage]) -> None:
    """Raises a refusal for a tool's message that answers no call of the assistant's last message."""
    called: set[str] = set()
    for i, message in enumerate(messages):
        if message.role == "assistant":
            called = {call.id for call in message.calls}
        elif message.role == "tool" and message.tool_call_id not in called:
            raise refusal(
                f"messages[{i}].tool_call_id", "a message of the role 'tool' answers a call of the assistant before it"
            )


class ExpectedAnswer(RequestModel):
    """OpenAI's `prediction`."""

    type: Literal["content"]
    content: Content = Field(description="a text that the answer is expected to repeat, but for some changes")


class StreamOptions(RequestModel):
    include_usage: bool = Field(default=False, description="end with a piece that says how many tokens were used")


class TextRequest(RequestModel):
    """How tokens are chosen. What is left out is as models.yaml says of the model, else OpenAI's default."""

    model: str = Field(min_length=1, max_length=256, description="a model's or a route's id, of `GET /v1/models`")
    stream: bool = Field(default=False, description="answer piece by piece, as server-sent events")
    stop: Stop | Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = Field(
        default=None, description="texts that end an answer; they are not in it"
    )
    seed: Seed | None = Field(default=None, description="the same request with the same seed has the same answer")
    temperature: float | None = Field(
        default=None, ge=0.0, le=2.0, description="0: always the likeliest token; above 1: flatter than the model"
    )
    top_p: float | None = Field(
        default=None, gt=0.0, le=1.0, description="of the likeliest tokens, as many as have this much probability"
    )
    top_k: Index | None = Field(default=None, description="so many of the likeliest tokens; 0: of all")
    min_p: float | None = Field(
        default=None, ge=0.0, le=1.0, description="no token below this part of the likeliest one's probability"
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2.0, le=2.0, description="taken off the logit of each token that the answer has already"
    )
    frequency_penalty: float | None = Field(
        default=None, ge=-2.0, le=2.0, description="the same, for each time that it has it"
    )
    repetition_penalty: float | None = Field(
        default=None, ge=0.01, le=10.0, description="above 1: tokens of prompt and answer become less likely"
    )
    logit_bias: Annotated[LogitBias, Field(max_length=1024)] | None = Field(
        default=None, description="added to the logits of these token ids"
    )
    min_tokens: Index | None = Field(default=None, description="no end before so many tokens")
    ignore_eos: bool = Field(default=False, description="go on after an end token, as load tests do")
    structured_outputs: StructuredOutputs | None = Field(default=None, description="the form that the answer must have")
    user: str | None = Field(
        default=None, max_length=512, description="your user, by whom a route may choose a replica"
    )
    prompt_cache_key: str | None = Field(
        default=None, max_length=512, description="requests of one key meet the same replica, where a route says so"
    )

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def form(self) -> AnswerForm | None:
        """The form that the answer must have. None: any text."""
        return None if self.structured_outputs is None else self.structured_outputs.form

    @model_validator(mode="after")
    def _a_form_ends(self) -> TextRequest:
        if self.ignore_eos and self.form is not None:
            raise refusal("ignore_eos", "ignore_eos is not allowed with a form of the answer, which has an end")
        return self


class SamplingRequest(TextRequest):
    """What chat and completions share beside how tokens are chosen."""

    n: int = Field(default=1, ge=1, le=MAX_CHOICES, description="answers to each prompt")
    stream_options: StreamOptions | None = Field(default=None, description="only with `stream`")

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> SamplingRequest:
        if self.stream_options is not None and not self.stream:
            raise refusal("stream_options", "stream_options is only allowed when stream is true")
        return self


class ChatRequest(SamplingRequest):
    messages: list[ChatMessage] = Field(
        min_length=1, max_length=2048, fail_fast=True, description="the conversation, oldest first"
    )
    max_tokens: Count | None = Field(default=None, description="as `max_completion_tokens`, its older name")
    max_completion_tokens: Count | None = Field(
        default=None, description="the longest answer; without it, up to the end of the context"
    )
    logprobs: bool = Field(default=False, description="say of each token how likely it was")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="and of so many of the likeliest in its place; only with `logprobs`"
    )
    prediction: ExpectedAnswer | None = Field(
        default=None, description="what the answer is expected to be: it comes sooner the more of it is right"
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="the form that the answer must have, as OpenAI says it"
    )
    tools: Tools | None = Field(default=None, description="functions that the model may call")
    tool_choice: ToolChoice | None = Field(
        default=None, description="whether the model may or must call, or which; without it `auto`; only with `tools`"
    )
    parallel_tool_calls: bool = Field(
        default=True, description="whether an answer may call more than once; only with `tools`"
    )

    @property
    def callable_tools(self) -> list[FunctionTool]:
        """The tools that the answer may call; none where the choice is "none"."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def form(self) -> AnswerForm | None:
        """By either field. None: any text."""
        given = self.response_format or self.structured_outputs
        return None if given is None else given.form

    @property
    def max_new_tokens(self) -> int | None:
        """None: up to the end of the context."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @model_validator(mode="after")
    def _one_form(self) -> ChatRequest:
        if self.response_format is not None and self.structured_outputs is not None:
            raise refusal("structured_outputs", "structured_outputs is not allowed with response_format: give one")
        return self

    @model_validator(mode="after")
    def _tools_belong_together(self) -> ChatRequest:
        check_results(self.messages)
        check_tools(self.tools, self.tool_choice)
        if self.tools is None and "parallel_tool_calls" in self.model_fields_set:
            raise refusal("parallel_tool_calls", "parallel_tool_calls is only allowed with tools")
        if self.callable_tools and self.ignore_eos:
            raise refusal("ignore_eos", "ignore_eos is not allowed with tools, whose calls have an end")
        return self

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
    ) = Field(description="one text or several, or their token ids")
    max_tokens: Index = Field(default=16, description="0 with echo: the prompt alone, as where it is only scored")
    logprobs: int | None = Field(
        default=None, ge=0, le=20, description="say of each token, and of so many of the likeliest, how likely it was"
    )
    echo: bool = Field(default=False, description="begin the answer with the prompt")

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
    prompt: str | None = Field(default=None, description="a text, or else `messages`")
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048, fail_fast=True)] | None = Field(
        default=None, description="a conversation, in the form that the model reads"
    )
    tools: Tools | None = Field(default=None, description="functions that the model may call; only with `messages`")
    add_special_tokens: bool = Field(default=True, description="with what the model expects around a text, as BOS")

    @model_validator(mode="after")
    def _one_input(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise refusal("prompt", "give exactly one of prompt and messages")
        if self.messages is None and self.tools is not None:
            raise refusal("tools", "tools are only allowed with messages")
        check_tools(self.tools)
        check_results(self.messages or [])
        return self


class DetokenizeRequest(RequestModel):
    model: str = Field(min_length=1, max_length=256)
    tokens: list[TokenId] = Field(fail_fast=True)
