"""Owns the bytes of legacy completions, whole and streamed. Never sees a socket."""

from __future__ import annotations

import json
from collections.abc import Sequence

from services.gateway.chat_wire import Envelope
from services.gateway.text_wire import TokenCounts, Transcript, completion_logprobs
from shared.events import Finished, RowEvent, TextDelta

KIND = "text_completion"


class CompletionStream:
    """Writes a streamed completion: one chunk a piece of text, and one with the finish reason."""

    def __init__(self, envelope: Envelope, counts: TokenCounts, *, include_usage: bool) -> None:
        self._envelope = envelope
        self._counts = counts
        self._include_usage = include_usage
        self._head = envelope.head(KIND)
        self._tail = '}],"usage":null}\n\n' if include_usage else "}]}\n\n"

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        out: list[str] = []
        for row, event in batch:
            if isinstance(event, TextDelta):
                self._counts.note(row, event)
                out.append(
                    f'{self._head}{row},"text":{json.dumps(event.text)},"logprobs":{_logprobs(event)},'
                    f'"finish_reason":null{self._tail}'
                )
            elif isinstance(event, Finished):
                out.append(f'{self._head}{row},"text":"","logprobs":null,"finish_reason":"{event.reason}"{self._tail}')
        return "".join(out).encode()

    def last(self) -> bytes:
        return self._envelope.usage_event(KIND, self._counts) if self._include_usage else b""


def _logprobs(delta: TextDelta) -> str:
    return "null" if delta.logprobs is None else json.dumps(completion_logprobs(delta.logprobs))


def completion(envelope: Envelope, transcript: Transcript) -> bytes:
    """The body of a plain completion."""
    choices = [
        {
            "index": row,
            "text": choice.text,
            "logprobs": None if choice.logprobs is None else completion_logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        for row, choice in transcript.in_order()
    ]
    body = envelope.fields(KIND) | {"choices": choices, "usage": transcript.counts.usage()}
    return json.dumps(body).encode()
