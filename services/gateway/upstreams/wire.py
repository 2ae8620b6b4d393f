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

from shared.events import Finished, RowEvent, TextDelta, TokenLogprob
from shared.schemas.text import ChatRequest, CompletionRequest

DONE = b"[DONE]"
CHARS_PER_TOKEN = 4  # OpenAI's rule of thumb for English, where a server counts no tokens
OURS_TO_SAY = frozenset({"model", "stream", "stream_options"})
TENANTS_OWN = ("prompt_cache_key", "user")  # by which servers keep prompts and users apart


class BadAnswer(Exception):
    """The remote server's answer breaks the format, or is not whole."""


class UnfitAnswer(BadAnswer):
    """The answer is whole, but not what this request asked for: the server lacks an option. Others may do without."""


class RemoteText(BaseModel):
    content: str | None = None
    refusal: str | None = None


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
        self._reasons: dict[int, Literal["stop", "length", "content_filter"]] = {}
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
        """The text that came. Raises BadAnswer for a choice nobody asked for, or an end that is none."""
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
        counts = [RowEvent(0, TextDelta("", prompt, completion))]
        counts += [RowEvent(row, TextDelta("", 0, 0)) for row in range(1, self._call.rows)]
        units = [float(prompt + completion)] + [0.0] * (self._call.rows - 1)
        return counts + [RowEvent(row, Finished(self._reasons[row], units[row])) for row in range(self._call.rows)]

    def _choice(self, choice: RemoteChoice) -> list[RowEvent]:
        row = choice.index
        if row >= self._call.rows:
            raise BadAnswer(f"there is no choice {row} of {self._call.rows}")
        self._begun.add(row)
        match choice.finish_reason:
            case "stop" | "length" | "content_filter" as reason:
                self._reasons[row] = reason
            case None:
                pass
            case other:
                raise BadAnswer(f"a choice ended by {other[:32]!r}")
        logprobs = None if choice.logprobs is None else _logprobs(choice.logprobs, self._chars[row])
        piece = choice.piece
        if not piece and not logprobs:
            return []
        self._chars[row] += len(piece)
        prompt = self._call.prompt_tokens if row == 0 else 0
        return [RowEvent(row, TextDelta(piece, prompt, _tokens(self._chars[row]), logprobs))]


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
