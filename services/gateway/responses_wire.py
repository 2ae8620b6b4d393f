"""Owns the bytes of the Responses API: the response, whole, and the events of its stream. Never sees a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.gateway.responses_output import Output
from services.gateway.text_wire import TokenCounts
from shared.events import Failed, RowEvent
from shared.schemas.responses import ResponsesRequest

_json = json.JSONEncoder(separators=(",", ":")).encode
# Of the codes that OpenAI has for a response that failed, those that fit; all others are the server's.
FAILURES: Mapping[int, str] = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


@dataclass(frozen=True, slots=True)
class Draft:
    """A response but for what a model makes of it. `created` is in seconds since the epoch."""

    token: str
    created: int
    body: ResponsesRequest

    def response(self, model: str, status: str, **made: Any) -> dict[str, Any]:
        """OpenAI's object. What no model here has is null, or OpenAI's default where there must be a value."""
        body, choice = self.body, self.body.tool_choice or "auto"
        form = None if body.text is None else body.text.format
        return {
            "id": f"resp_{self.token}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": model,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "prompt_cache_key": body.prompt_cache_key,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": body.safety_identifier,
            "service_tier": "default",
            "store": False,
            "temperature": body.temperature,
            "text": {
                "format": {"type": "text"} if form is None else form.model_dump(by_alias=True, exclude_unset=True)
            },
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": body.user,
            **made,
        }

    def ended(self, model: str, output: Output) -> tuple[str, dict[str, Any]]:
        """How it ended, and all of it."""
        status = "completed" if output.reason is None else "incomplete"
        details = None if output.reason is None else {"reason": output.reason}
        made = {"output": output.items, "incomplete_details": details, "usage": _usage(output.counts)}
        return status, self.response(model, status, **made)


class ResponseStream:
    """Writes the events of one response, each with its number."""

    def __init__(self, draft: Draft, output: Output) -> None:
        self._draft = draft
        self._output = output
        self._model = ""
        self._number = 0

    def by(self, model: str) -> ResponseStream:
        """Itself, once it is known who answers: until a model gives something, another may."""
        self._model = model
        return self

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        """Nothing, until the model gives something."""
        changes = self._output.changes(batch)
        if not changes:
            return b""
        return (self._opening() + "".join(self._event(kind, fields) for kind, fields in changes)).encode()

    def last(self) -> bytes:
        status, response = self._draft.ended(self._model, self._output)
        return self._event(f"response.{status}", {"response": response}).encode()

    def failed(self, failure: Failed) -> bytes:
        """The response as it failed, then an error, which OpenAI's clients raise: a stream is cut behind it."""
        code = FAILURES.get(failure.status, "server_error")
        error = {"code": code, "message": failure.message, "param": failure.param, "type": failure.type}
        response = self._draft.response(self._model, "failed", output=self._output.items, error=error)
        detail = {"message": failure.message, "type": failure.type, "param": failure.param, "code": failure.code}
        flat = {"code": failure.code, "message": failure.message, "param": failure.param, "error": detail}
        events = (self._opening(), self._event("response.failed", {"response": response}), self._event("error", flat))
        return "".join(events).encode()

    def _opening(self) -> str:
        if self._number:
            return ""
        response = self._draft.response(self._model, "in_progress")
        return "".join(self._event(f"response.{kind}", {"response": response}) for kind in ("created", "in_progress"))

    def _event(self, kind: str, fields: Mapping[str, Any]) -> str:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {_json(event)}\n\n"


def response(draft: Draft, model: str, output: Output) -> bytes:
    """The body of a plain answer."""
    return _json(draft.ended(model, output)[1]).encode()


def _usage(counts: TokenCounts) -> dict[str, Any]:
    """No model here reasons apart from its answer; what was put into a cache is not counted."""
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts.prompt + counts.completion,
    }
