"""Owns what a replica answers: the events of a request's rows, in order. Never sees HTTP, never a tensor.

A request fans out into rows (`n` choices of each prompt). The stream of one call is a sequence of batches, each a
list of `RowEvent`: first one `Accepted` (row 0), then the rows' own events, each row's last being `Finished` or
`Failed`. A call refused as a whole is a single `Failed` in place of `Accepted`.

An empty batch means nothing but that the replica lives: one comes after each `HEARTBEAT_S` in which nothing else did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from shared.errors import ServiceError

HEARTBEAT_S = 10.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request passed every check and waits or runs. From here on the status is 200."""

    rows: int


@dataclass(frozen=True, slots=True)
class Started:
    """Precedes a row's first piece: the row waited so many seconds in the queue before it ran."""

    queued_s: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token's log-probability (natural log) under the unmodified distribution, and the likeliest alternatives.

    `offset` is how many characters of the row's text precede the token's own; alternatives have none. `token_id` is
    None where only text is known.
    """

    token: str
    token_id: int | None
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[TokenLogprob, ...] = ()
    offset: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that follows the row's earlier text. Counts are running totals of the row.

    `cached_tokens`: how many of the prompt's the model had read before, for an earlier request.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    cached_tokens: int = 0

    def join(self, later: TextDelta) -> TextDelta:
        logprobs = None if self.logprobs is None else self.logprobs + (later.logprobs or ())
        text = self.text + later.text
        return TextDelta(text, later.prompt_tokens, later.completion_tokens, logprobs, later.cached_tokens)


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a row's call of a tool. `index` counts the row's calls; `id` and `name` are in a call's first piece.

    `arguments` is JSON text that follows the call's earlier. Counts are running totals of the row, as a TextDelta's.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def join(self, later: ToolCallDelta) -> ToolCallDelta:
        """With a later piece of the same call."""
        arguments = self.arguments + later.arguments
        counts = (later.prompt_tokens, later.completion_tokens, later.cached_tokens)
        return ToolCallDelta(self.index, self.id, self.name, arguments, *counts)


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The answer of tokenize: ids, and each token's text."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageDelta:
    """An encoded image of a row: previews on the way (`is_preview`), and the image itself last.

    `step` of `steps` had been taken. `seed` draws this very image again: a request with it, `n` of 1 and all else
    alike. `prompt_tokens` counts what the model read of the prompt. `sha256` is of `data`, in hexadecimal.
    """

    data: bytes
    sha256: str
    format: Literal["png", "jpeg", "webp"]
    width: int
    height: int
    seed: int
    step: int
    steps: int
    is_preview: bool
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Item:
    """A row's part of a list: a JSON object that is written already, but for its `index`, which the row gives.

    `tokens` counts what was read. `head` is a JSON object of what the answer says beside its list, from any row alike.
    """

    json: bytes
    tokens: int
    head: bytes = b""


AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """Bytes of a row's file that follow its earlier ones; there may be none where an encoder holds them back.

    `seconds` is a running total of the row's sound. `sample_rate` in Hz is the model's own. `seed` draws this very
    sound again: a request with it, `n` of 1 and all else alike. `prompt_tokens` counts what was read of the input.
    """

    data: bytes
    format: AudioFormat
    sample_rate: int
    seconds: float
    seed: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A row's last event when it ended well. `units` is the work done, in the model's own unit.

    "tool_calls": it ended by itself, and calls tools. "content_filter": a remote server withheld the rest.
    """

    reason: Literal["stop", "length", "tool_calls", "content_filter"]
    units: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A row's (or a call's) last event when it ended badly: a `ServiceError` as data."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ServiceError) -> Failed:
        return cls(error.status, error.type, error.code, error.message, error.param, error.retry_after)


Event = Accepted | Started | TextDelta | ToolCallDelta | TokenIds | ImageDelta | AudioDelta | Item | Finished | Failed


class RowEvent(NamedTuple):
    row: int
    event: Event
