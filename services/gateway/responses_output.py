"""Owns what a response holds so far: its items, and what each event of its row changes. Never sees bytes.

An item is begun by what comes first of it, and done when another begins or the row ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.gateway.text_wire import TokenCounts, chat_logprobs
from shared.events import Finished, RowEvent, TextDelta, TokenLogprob, ToolCallDelta

Change = tuple[str, dict[str, Any]]  # an event's type, and its fields but for its number
INCOMPLETE: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}


def logprobs_of(tokens: Sequence[TokenLogprob] | None) -> list[Any]:
    """OpenAI's `logprobs` of a text, as a chat's."""
    content: Any = [] if tokens is None else chat_logprobs(tokens)["content"]
    return content


@dataclass(slots=True)
class Message:
    """An item of text on its way."""

    id: str
    index: int
    pieces: list[str] = field(default_factory=list[str])
    logprobs: list[Any] = field(default_factory=list[Any])

    def begun(self) -> list[Change]:
        return [
            ("response.output_item.added", {"output_index": self.index, "item": self._item("in_progress", [])}),
            ("response.content_part.added", {**self._place, "part": self._part("", [])}),
        ]

    def grown(self, text: str, logprobs: list[Any]) -> Change:
        self.pieces.append(text)
        self.logprobs += logprobs
        return "response.output_text.delta", {**self._place, "delta": text, "logprobs": logprobs}

    def done(self, status: str) -> tuple[list[Change], dict[str, Any]]:
        """What is told of its end, and the item."""
        text = "".join(self.pieces)
        part = self._part(text, self.logprobs)
        item = self._item(status, [part])
        return [
            ("response.output_text.done", {**self._place, "text": text, "logprobs": self.logprobs}),
            ("response.content_part.done", {**self._place, "part": part}),
            ("response.output_item.done", {"output_index": self.index, "item": item}),
        ], item

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}

    def _part(self, text: str, logprobs: list[Any]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def _item(self, status: str, content: list[Any]) -> dict[str, Any]:
        return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content}


@dataclass(slots=True)
class Call:
    """An item of a function's call on its way. `count` says which of the row's calls it is, from 0."""

    id: str
    index: int
    count: int
    call_id: str
    name: str
    pieces: list[str] = field(default_factory=list[str])

    def begun(self) -> list[Change]:
        return [("response.output_item.added", {"output_index": self.index, "item": self._item("in_progress")})]

    def grown(self, arguments: str) -> Change:
        self.pieces.append(arguments)
        return "response.function_call_arguments.delta", {**self._place, "delta": arguments}

    def done(self, status: str) -> tuple[list[Change], dict[str, Any]]:
        """What is told of its end, and the item."""
        item = self._item(status)
        said = {"name": self.name, "arguments": item["arguments"]}
        return [
            ("response.function_call_arguments.done", {**self._place, **said}),
            ("response.output_item.done", {"output_index": self.index, "item": item}),
        ], item

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}

    def _item(self, status: str) -> dict[str, Any]:
        said = {"call_id": self.call_id, "name": self.name, "arguments": "".join(self.pieces)}
        return {"id": self.id, "type": "function_call", "status": status, **said}


class Output:
    """Gathers the row of a call. `token` makes the ids of its items, which no other response has.

    `reason` says why it is incomplete, once it ended so.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._open: Message | Call | None = None
        self.counts = TokenCounts(1)
        self.items: list[dict[str, Any]] = []
        self.reason: str | None = None

    def take(self, batch: Sequence[RowEvent]) -> None:
        """As `changes`, where nobody is told."""
        self.changes(batch)

    def changes(self, batch: Sequence[RowEvent]) -> list[Change]:
        """What the batch changes, in order."""
        changes: list[Change] = []
        for row, event in batch:
            if isinstance(event, TextDelta):
                self.counts.note(row, event)
                if event.text or event.logprobs:
                    changes += self._say(event)
            elif isinstance(event, ToolCallDelta):
                self.counts.note(row, event)
                changes += self._call(event)
            elif isinstance(event, Finished):
                changes += self._end(event)
        return changes

    def _say(self, event: TextDelta) -> list[Change]:
        message, changes = self._message()
        return [*changes, message.grown(event.text, logprobs_of(event.logprobs))]

    def _message(self) -> tuple[Message, list[Change]]:
        """The one on its way, and what is told of it if it begins with this."""
        if isinstance(self._open, Message):
            return self._open, []
        ended = self._close("completed")
        message = Message(self._id("msg"), len(self.items))
        self._open = message
        return message, ended + message.begun()

    def _call(self, event: ToolCallDelta) -> list[Change]:
        """Raises ValueError for a piece of a call that is done: a row's calls follow each other."""
        changes: list[Change] = []
        call = self._open
        if not isinstance(call, Call) or call.count != event.index:
            if event.id is None:
                raise ValueError(f"call {event.index} of a row went on after another item had begun")
            changes += self._close("completed")
            call = Call(self._id("fc"), len(self.items), event.index, event.id, event.name or "")
            self._open = call
            changes += call.begun()
        return [*changes, call.grown(event.arguments)] if event.arguments else changes

    def _end(self, event: Finished) -> list[Change]:
        """A row that gave nothing has an empty message."""
        self.reason = INCOMPLETE.get(event.reason)
        begun = self._message()[1] if self._open is None and not self.items else []
        return begun + self._close("completed" if self.reason is None else "incomplete")

    def _close(self, status: str) -> list[Change]:
        if self._open is None:
            return []
        changes, item = self._open.done(status)
        self.items.append(item)
        self._open = None
        return changes

    def _id(self, kind: str) -> str:
        return f"{kind}_{self._token}_{len(self.items)}"
