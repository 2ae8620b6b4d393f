"""Owns what the text endpoints' wire formats share: token counts, log-probabilities, whole answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.events import Finished, RowEvent, TextDelta, TokenLogprob, ToolCallDelta

# OpenAI's stand-in for "less than can be said"; JSON has no minus infinity.
LEAST_LOGPROB = -9999.0


class TokenCounts:
    """Counts a request's tokens. Deltas carry running totals, so the last of each row stands."""

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._prompt: dict[int, int] = {}
        self._completion: dict[int, int] = {}
        self._cached: dict[int, int] = {}

    def note(self, row: int, delta: TextDelta | ToolCallDelta) -> None:
        self._prompt[row] = delta.prompt_tokens
        self._completion[row] = delta.completion_tokens
        self._cached[row] = delta.cached_tokens

    @property
    def any_seen(self) -> bool:
        return bool(self._prompt)

    @property
    def prompt(self) -> int:
        """Each prompt once: its `n` rows follow each other."""
        return self._once(self._prompt)

    @property
    def cached(self) -> int:
        """How many of the prompts' tokens need not be read: each prompt once, as its first row found them."""
        return self._once(self._cached)

    @property
    def completion(self) -> int:
        return sum(self._completion.values())

    def usage(self) -> dict[str, object]:
        prompt, completion = self.prompt, self.completion
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }

    def _once(self, counts: dict[int, int]) -> int:
        return sum(count for row, count in counts.items() if row % self._choices == 0)


@dataclass(slots=True)
class GatheredCall:
    """A call of a tool, gathered."""

    id: str
    name: str
    pieces: list[str] = field(default_factory=list[str])

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True)
class Choice:
    """One row's answer, gathered."""

    pieces: list[str] = field(default_factory=list[str])
    calls: list[GatheredCall] = field(default_factory=list[GatheredCall])
    logprobs: list[TokenLogprob] | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def content(self) -> str | None:
        """The text; None of an answer that has calls alone."""
        return self.text or (None if self.calls else "")

    def call(self, delta: ToolCallDelta) -> None:
        """Take a piece of a call."""
        if delta.index >= len(self.calls):
            self.calls.append(GatheredCall(delta.id or "", delta.name or ""))
        self.calls[delta.index].pieces.append(delta.arguments)


class Transcript:
    """Gathers all rows of a call for an answer in one piece."""

    def __init__(self, choices: int) -> None:
        self.counts = TokenCounts(choices)
        self.rows: dict[int, Choice] = {}

    def take(self, batch: Sequence[RowEvent]) -> None:
        for row, event in batch:
            if isinstance(event, TextDelta):
                choice = self.rows.setdefault(row, Choice())
                choice.pieces.append(event.text)
                if event.logprobs is not None:
                    choice.logprobs = [*(choice.logprobs or ()), *event.logprobs]
                self.counts.note(row, event)
            elif isinstance(event, ToolCallDelta):
                self.rows.setdefault(row, Choice()).call(event)
                self.counts.note(row, event)
            elif isinstance(event, Finished):
                self.rows.setdefault(row, Choice()).finish_reason = event.reason

    def in_order(self) -> list[tuple[int, Choice]]:
        return sorted(self.rows.items())


def finite(logprob: float) -> float:
    return logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object]:
    """OpenAI's `choices[].logprobs` of chat completions."""
    content = [{**_chat_token(token), "top_logprobs": [_chat_token(top) for top in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _chat_token(token: TokenLogprob) -> dict[str, object]:
    return {"token": token.token, "bytes": list(token.bytes), "logprob": finite(token.logprob)}


def completion_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object]:
    """OpenAI's `choices[].logprobs` of completions. A token that follows nothing has NaN, which becomes null."""
    known = [not math.isnan(token.logprob) for token in tokens]
    tops = [{top.token: finite(top.logprob) for top in token.top} for token in tokens]
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [finite(t.logprob) if is_known else None for t, is_known in zip(tokens, known, strict=True)],
        "top_logprobs": [top if is_known else None for top, is_known in zip(tops, known, strict=True)],
        "text_offset": [token.offset for token in tokens],
    }
