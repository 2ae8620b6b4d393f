"""Owns OpenAI's wire format as other servers speak it: our calls as their requests, their answers as our row events.

Never sees a socket.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from pydantic import BaseModel, Field

from shared.events import Finished, RowEvent, TextDelta, TokenLogprob, ToolCallDelta
from shared.schemas.text import ChatRequest, CompletionRequest
from shared.schemas.tools import tools_text

DONE = b"[DONE]"
CHARS_PER_TOKEN = 4  # OpenAI's rule of thumb for English, where a server counts no tokens
OURS_TO_SAY = frozenset({"model", "stream", "stream_options"})
TENANTS_OWN = ("prompt_cache_key", "user")  # by which servers keep prompts and users apart


class BadAnswer(Exception):
    """The remote server's answer breaks the format, or is not whole."""


class UnfitAnswer(BadAnswer):
    """The answer is whole, but not what this request asked for: the server lacks an option. Others may do without."""


class RemoteFunction(BaseModel):
    name: str | None = None
    arguments: str | None = None


class RemoteCallPiece(BaseModel):
    """A call of a tool, or a piece of one: a chunk's has an index, whole ones may have none."""

    index: int | None = Field(default=None, ge=0)
    id: str | None = None
    function: RemoteFunction = RemoteFunction()


class RemoteText(BaseModel):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[RemoteCallPiece] | None = None


class RemoteLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[RemoteLogprob] | None = None


class RemoteLogprobs(BaseModel):
    """`content` is chat's form, the parallel lists are that of completions."""

    content: list[RemoteLogprob] | None = None
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None


class RemoteChoice(BaseModel):
    """A choice of a whole answer (`message` or `text`) or of a chunk (`delta` or `text`)."""

    index: int = Field(default=0, ge=0)
    text: str | None = None
    message: RemoteText | None = None
    delta: RemoteText | None = None
    logprobs: RemoteLogprobs | None = None
    finish_reason: str | None = None

    @property
    def piece(self) -> str:
        said = self.message or self.delta
        return self.text or (said and (said.content or said.refusal)) or ""

    @property
    def calls(self) -> list[RemoteCallPiece]:
        said = self.message or self.delta
        return (said and said.tool_calls) or []


class RemoteUsage(BaseModel):
    """What the server found in its cache is not read: other tenants' prompts may have put it there."""

    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)


class RemoteAnswer(BaseModel):
    """A whole answer, or one chunk of a streamed one. What we do not ask for is not read."""

    choices: list[RemoteChoice] = []
    usage: RemoteUsage | None = None
    error: Any = None


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """A request as the remote server takes it; the answer has `rows` choices. `prompt_tokens` is an estimate."""

    path: str
    body: dict[str, object]
    rows: int
    prompt_tokens: int
    stream: bool

    def content(self) -> bytes:
        """The body's JSON. A stream is asked to end with its usage."""
        more = {"stream": True, "stream_options": {"include_usage": True}} if self.stream else {}
        return json.dumps(self.body | more).encode()


def remote_call(request: BaseModel, remote_id: str, tenant: str) -> RemoteCall:
    """Say to the remote server what the client said, under the name that the server has for the model."""
    fields = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    said = {key: value for key, value in fields.items() if value is not None}
    body: dict[str, object] = {
        "model": remote_id,
        **{key: value for key, value in said.items() if key not in OURS_TO_SAY},
        **{key: _apart(tenant, str(said[key])) for key in TENANTS_OWN if key in said},
    }
    match request:
        case ChatRequest():
            chars = sum(len(message.text) for message in request.messages)
            chars += sum(len(call.function.arguments) for message in request.messages for call in message.calls)
            chars += len(tools_text(request.callable_tools))
            return RemoteCall("/chat/completions", body, request.n, _tokens(chars), request.stream)
        case CompletionRequest():
            # Servers differ in the default, ours is documented.
            body["max_tokens"] = request.max_tokens
            prompts = request.prompts
            tokens = sum(_tokens(len(prompt)) if isinstance(prompt, str) else len(prompt) for prompt in prompts)
            return RemoteCall("/completions", body, request.n * len(prompts), tokens, request.stream)
        case _:
            raise TypeError(f"an upstream has no {type(request).__name__}")


class AnswerRows:
    """Turns one call's remote answer, whole or chunk by chunk, into row events.

    Running counts are estimates; the remote server's own count stands in the end. It counts all rows together, and
    only sums are ever shown, so the first row gets it all. The rows end together, since that count comes last.
    """

    def __init__(self, call: RemoteCall) -> None:
        self._call = call
        self._chars = [0] * call.rows
        self._begun: set[int] = set()
        self._called = [0] * call.rows  # how many calls of tools each row has begun
        self._reasons: dict[int, Literal["stop", "length", "tool_calls", "content_filter"]] = {}
        self._usage: RemoteUsage | None = None

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._call.rows

    @property
    def _counts(self) -> tuple[int, int]:
        """Tokens of the prompts and of all answers so far."""
        if self._usage is not None:
            return self._usage.prompt_tokens, self._usage.completion_tokens
        return self._call.prompt_tokens, sum(map(_tokens, self._chars))

    def take(self, answer: RemoteAnswer) -> list[RowEvent]:
        """The text and the calls that came. Raises BadAnswer for a choice nobody asked for, or an end that is none."""
        self._usage = answer.usage or self._usage
        return [event for choice in answer.choices for event in self._choice(choice)]

    def end(self) -> list[RowEvent]:
        """What is to be said once everything came.

        Raises BadAnswer if some row has not ended, and UnfitAnswer if it never began while the others ended.
        """
        if missing := self._call.rows - len(self._reasons):
            is_whole = self._reasons and self._begun <= self._reasons.keys()
            raise (UnfitAnswer if is_whole else BadAnswer)(f"{missing} of {self._call.rows} choices did not end")
        prompt, completion = self._counts
        counts = [RowEvent(0, self._total(0, prompt, completion))]
        counts += [RowEvent(row, self._total(row, 0, 0)) for row in range(1, self._call.rows)]
        units = [float(prompt + completion)] + [0.0] * (self._call.rows - 1)
        return counts + [RowEvent(row, Finished(self._reason(row), units[row])) for row in range(self._call.rows)]

    def _reason(self, row: int) -> Literal["stop", "length", "tool_calls", "content_filter"]:
        """Servers differ in what an answer that must call ends by; ours has one word for all that call."""
        reason = self._reasons[row]
        if reason == "tool_calls" and not self._called[row]:
            raise BadAnswer("a choice ended by its calls, and had none")
        return "tool_calls" if reason == "stop" and self._called[row] else reason

    def _total(self, row: int, prompt: int, completion: int) -> TextDelta | ToolCallDelta:
        """The last counts of a row, with a piece of nothing."""
        if self._called[row]:
            return ToolCallDelta(self._called[row] - 1, None, None, "", prompt, completion)
        return TextDelta("", prompt, completion)

    def _choice(self, choice: RemoteChoice) -> list[RowEvent]:
        row = choice.index
        if row >= self._call.rows:
            raise BadAnswer(f"there is no choice {row} of {self._call.rows}")
        self._begun.add(row)
        match choice.finish_reason:
            case "stop" | "length" | "tool_calls" | "content_filter" as reason:
                self._reasons[row] = reason
            case None:
                pass
            case other:
                raise BadAnswer(f"a choice ended by {other[:32]!r}")
        logprobs = None if choice.logprobs is None else _logprobs(choice.logprobs, self._chars[row])
        events: list[RowEvent] = []
        piece = choice.piece
        if piece or logprobs:
            self._chars[row] += len(piece)
            events.append(RowEvent(row, TextDelta(piece, *self._running(row), logprobs)))
        return events + [RowEvent(row, self._call_piece(row, i, each)) for i, each in enumerate(choice.calls)]

    def _call_piece(self, row: int, i: int, piece: RemoteCallPiece) -> ToolCallDelta:
        """A piece of a row's call; `i` is its place in its list. Raises BadAnswer where it is none."""
        index, name = i if piece.index is None else piece.index, piece.function.name or ""
        arguments = piece.function.arguments or ""
        begins = index == self._called[row]
        if index > self._called[row] or (begins and not (piece.id and name)):
            raise BadAnswer("a call of a tool does not begin with its id and its name")
        self._chars[row] += len(arguments) + (len(name) if begins else 0)
        if begins:
            self._called[row] += 1
        called = (piece.id, name) if begins else (None, None)
        return ToolCallDelta(index, *called, arguments, *self._running(row))

    def _running(self, row: int) -> tuple[int, int]:
        """Tokens of the row's prompt and of its answer so far."""
        return self._call.prompt_tokens if row == 0 else 0, _tokens(self._chars[row])


def _apart(tenant: str, key: str) -> str:
    """A key that no other tenant can send, and that tells nobody who sends it."""
    return blake2b(f"{tenant}\0{key}".encode(), digest_size=16).hexdigest()


def _tokens(chars: int) -> int:
    return math.ceil(chars / CHARS_PER_TOKEN)


def _logprobs(remote: RemoteLogprobs, offset: int) -> tuple[TokenLogprob, ...]:
    """`offset` is how many characters of the row came before."""
    if remote.content is not None:
        return tuple(_logprob(entry) for entry in remote.content)
    tops = remote.top_logprobs or [None] * len(remote.tokens)
    offsets = remote.text_offset if remote.text_offset is not None else _offsets(remote.tokens, offset)
    try:
        rows = list(zip(remote.tokens, remote.token_logprobs, tops, offsets, strict=True))
    except ValueError:
        raise UnfitAnswer("logprobs are lists of different lengths") from None
    return tuple(
        TokenLogprob(
            token,
            None,
            tuple(token.encode()),
            math.nan if logprob is None else logprob,  # the first token of an echoed prompt follows nothing
            tuple(TokenLogprob(other, None, tuple(other.encode()), value) for other, value in (top or {}).items()),
            at,
        )
        for token, logprob, top, at in rows
    )


def _logprob(entry: RemoteLogprob) -> TokenLogprob:
    spelt = tuple(entry.token.encode() if entry.bytes is None else entry.bytes)
    return TokenLogprob(entry.token, None, spelt, entry.logprob, tuple(map(_logprob, entry.top_logprobs or ())))


def _offsets(tokens: Sequence[str], start: int) -> list[int]:
    offsets = [start]
    for token in tokens:
        offsets.append(offsets[-1] + len(token))
    return offsets[:-1]
