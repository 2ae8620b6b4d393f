"""Owns the request headers that the gateway obeys: deadlines, priority, session. All others steer nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from starlette.datastructures import Headers

from shared.calls import Priority
from shared.errors import InvalidRequest

DEADLINE_HEADER = "x-castalia-deadline-ms"
READ_TIMEOUT_HEADER = "x-stainless-read-timeout"
PRIORITY_HEADER = "x-castalia-priority"
RETRY_COUNT_HEADER = "x-stainless-retry-count"
SESSION_HEADER = "x-castalia-session"
MAX_SESSION = 256

PRIORITIES = {priority.name.lower(): priority for priority in Priority}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asks for by header, in seconds from the request's arrival.

    `deadline_s` bounds every answer. `patience_s`, the official client's read time-out, bounds a plain answer alone: it
    is the longest silence that the client bears, and a stream is never silent for long. `priority` None asks for none.
    """

    deadline_s: float
    patience_s: float
    priority: Priority | None

    def within_s(self, *, stream: bool) -> float:
        """How long the answer may take."""
        return self.deadline_s if stream else min(self.deadline_s, self.patience_s)

    @classmethod
    def of(cls, headers: Headers, *, longest_s: float) -> Wishes:
        """At most `longest_s` each. Raises InvalidRequest for a value that cannot be read."""
        deadline_s = _positive(headers, DEADLINE_HEADER, "milliseconds", scale=1e-3) or longest_s
        patience_s = _positive(headers, READ_TIMEOUT_HEADER, "seconds", scale=1.0) or longest_s
        return cls(min(deadline_s, longest_s), min(patience_s, longest_s), _priority(headers))


def retries_so_far(headers: Headers) -> int:
    """How often the official client has tried this request already; 0 for a value that it would never send."""
    value = headers.get(RETRY_COUNT_HEADER, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 4 else 0


def session_of(headers: Headers) -> str | None:
    """The session that a request belongs to by its own word. Raises InvalidRequest: too long a name."""
    session = headers.get(SESSION_HEADER)
    if session is not None and len(session) > MAX_SESSION:
        message = f"Header {SESSION_HEADER} may have {MAX_SESSION} characters; got {len(session)}."
        raise InvalidRequest(message, param=SESSION_HEADER)
    return session


def _positive(headers: Headers, name: str, unit: str, *, scale: float) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InvalidRequest(f"Header {name} must be a positive number of {unit}.", param=name)
    return value * scale


def _priority(headers: Headers) -> Priority | None:
    text = headers.get(PRIORITY_HEADER)
    if text is None:
        return None
    if text not in PRIORITIES:
        raise InvalidRequest(
            f"Header {PRIORITY_HEADER} must be one of: {', '.join(PRIORITIES)}.", param=PRIORITY_HEADER
        )
    return PRIORITIES[text]
