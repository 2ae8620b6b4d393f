"""Owns the bytes of chat completions, whole and streamed. Never sees a socket.

Chunks are pasted together around the JSON of the text alone: a dump of the whole chunk costs ten times as much.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.text_wire import Choice, TokenCounts, Transcript, chat_logprobs
from shared.events import Finished, RowEvent, TextDelta, ToolCallDelta


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of an answer repeats. `created` is in seconds since the epoch."""

    id: str
    created: int
    model: str

    def fields(self, kind: str) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }

    def head(self, kind: str) -> str:
        """An event up to the index of its one choice."""
        return "data: " + json.dumps(self.fields(kind), separators=(",", ":"))[:-1] + ',"choices":[{"index":'

    def usage_event(self, kind: str, counts: TokenCounts) -> bytes:
        body = self.fields(kind) | {"choices": [], "usage": counts.usage()}
        return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


CHUNK = "chat.completion.chunk"


class ChatStream:
    """Writes a streamed chat completion. A row's first chunk carries the role, its last the finish reason."""

    def __init__(self, envelope: Envelope, counts: TokenCounts, *, include_usage: bool) -> None:
        self._envelope = envelope
        self._counts = counts
        self._include_usage = include_usage
        self._head = envelope.head(CHUNK)
        self._tail = '}],"usage":null}\n\n' if include_usage else "}]}\n\n"
        self._begun: set[int] = set()

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        out: list[str] = []
        for row, event in batch:
            if isinstance(event, TextDelta):
                self._counts.note(row, event)
                logprobs = "null" if event.logprobs is None else json.dumps(chat_logprobs(event.logprobs))
                out.append(
                    f'{self._head}{row},"delta":{{{self._role(row)}"content":{json.dumps(event.text)}}},'
                    f'"logprobs":{logprobs},"finish_reason":null{self._tail}'
                )
            elif isinstance(event, ToolCallDelta):
                self._counts.note(row, event)
                if event.id is not None or event.arguments:
                    role = self._role(row)
                    content = '"content":null,' if role else ""
                    delta = f'{{{role}{content}"tool_calls":[{json.dumps(_call_piece(event))}]}}'
                    out.append(f'{self._head}{row},"delta":{delta},"logprobs":null,"finish_reason":null{self._tail}')
            elif isinstance(event, Finished):
                role = self._role(row)  # a row that ended without a piece of text
                delta = f'{{{role}"content":""}}' if role else "{}"
                out.append(
                    f'{self._head}{row},"delta":{delta},"logprobs":null,"finish_reason":"{event.reason}"{self._tail}'
                )
        return "".join(out).encode()

    def last(self) -> bytes:
        return self._envelope.usage_event(CHUNK, self._counts) if self._include_usage else b""

    def _role(self, row: int) -> str:
        if row in self._begun:
            return ""
        self._begun.add(row)
        return '"role":"assistant","refusal":null,'


def chat_completion(envelope: Envelope, transcript: Transcript) -> bytes:
    """The body of a plain chat completion."""
    choices = [
        {
            "index": row,
            "message": _message(choice),
            "logprobs": None if choice.logprobs is None else chat_logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        for row, choice in transcript.in_order()
    ]
    body = envelope.fields("chat.completion") | {"choices": choices, "usage": transcript.counts.usage()}
    return json.dumps(body).encode()


def _message(choice: Choice) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": choice.content, "refusal": None}
    if choice.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.calls
        ]
    return message


def _call_piece(piece: ToolCallDelta) -> dict[str, object]:
    """What a call is called comes with its first piece alone."""
    if piece.id is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}
