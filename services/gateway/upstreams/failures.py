"""Owns what a remote server's failures mean: for the client, for another try, for the circuit breaker.

Never lets a client see the server's address, its name for a model, or anything of our account there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx

from shared.errors import DeadlineExceeded, InvalidRequest, Overloaded, RequestTooLarge, ServiceError, UpstreamFailed

LONGEST_MESSAGE = 500  # characters of the remote server's words
REFUSALS = frozenset({400, 404, 413, 422})  # the request's fault
FAULTS = frozenset({401, 402, 408})  # with 5xx: the server's fault, or our account's; 403 may be about one prompt
TRANSIENT = frozenset({408, 409, 425, 429})  # with 5xx: another try may go better
OUT_OF_CREDIT = "insufficient_quota"
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_KEY = re.compile(r"\b(?:sk|pk|rk|key)-[\w*.-]{4,}", re.IGNORECASE)
_CODE = re.compile(r"[a-z0-9_]{1,64}")
_PARAM = re.compile(r"[\w.\[\]-]{1,128}")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed try: what to tell the client, and what it says of the server. `cause` is for the log."""

    error: ServiceError
    cause: str
    is_fault: bool  # counts against the server
    is_transient: bool  # another try may go better
    retry_after: float | None = None  # seconds that the server asks for


class TryFailed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.cause)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Curtain:
    """What of a model's server clients do not see. `hidden` are strings that may turn up in its messages."""

    model: str
    remote_id: str
    hidden: Sequence[str] = field(repr=False)

    def over(self, text: str) -> str:
        """The remote server's words, fit for a client's eyes: one line, without addresses and keys, not too long."""
        for secret in self.hidden:
            text = text.replace(secret, "[hidden]")
        text = _KEY.sub("[hidden]", _ADDRESS.sub("[hidden]", text))
        text = re.sub(rf"(?<!\w){re.escape(self.remote_id)}(?!\w)", lambda _: self.model, text)
        return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()[:LONGEST_MESSAGE]


def failure_of_status(status: int, headers: Mapping[str, str], body: bytes, curtain: Curtain) -> Failure:
    """What an answer that is no 2xx means."""
    detail, cause = _detail(body), f"status {status}"
    wait_s = retry_after(headers)
    if status in REFUSALS:
        return Failure(refusal(status, detail, curtain), cause, is_fault=False, is_transient=False)
    if status == 429:
        error: ServiceError = Overloaded(
            f"The server behind model '{curtain.model}' is at its limit.", retry_after=wait_s
        )
        is_transient = detail.get("code") != OUT_OF_CREDIT
        return Failure(error, cause, is_fault=False, is_transient=is_transient, retry_after=wait_s)
    is_broken = status >= 500
    return Failure(
        UpstreamFailed(curtain.model, retry_after=wait_s),
        cause,
        is_fault=is_broken or status in FAULTS,
        is_transient=is_broken or status in TRANSIENT,
        retry_after=wait_s,
    )


def failure_of_transport(error: httpx.HTTPError, curtain: Curtain, *, is_late: bool) -> Failure:
    """What a try without an answer means. `is_late`: the request's own time is over, by no fault of the server."""
    cause = type(error).__name__
    if is_late:
        return Failure(late(), cause, is_fault=False, is_transient=False)
    is_transient = isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ReadTimeout)
    return Failure(UpstreamFailed(curtain.model), cause, is_fault=True, is_transient=is_transient)


def refusal(status: int, detail: Mapping[str, Any], curtain: Curtain) -> ServiceError:
    """The remote server's refusal of the request itself, in its own words as far as clients may see them."""
    said = curtain.over(str(detail.get("message") or "")) or f"it answered {status}."
    message = f"The server behind model '{curtain.model}' refused the request: {said}"
    param = _matching(_PARAM, detail.get("param"))
    if status == 413:
        return RequestTooLarge(message, param=param)
    return InvalidRequest(message, param=param, code=_matching(_CODE, detail.get("code")))


def failure_of_event(error: object, curtain: Curtain) -> Failure:
    """What an error in the midst of a stream means; `error` is the event's `error`."""
    detail = cast("Mapping[str, Any]", error) if isinstance(error, dict) else {}
    if detail.get("type") == InvalidRequest.type:  # found out after the status had been sent
        return Failure(refusal(400, detail, curtain), "a late refusal", is_fault=False, is_transient=False)
    return broken("an error in the stream", curtain)


def broken(cause: str, curtain: Curtain, *, is_fault: bool = True) -> Failure:
    """The server's answer is no answer, at least none to this request."""
    return Failure(UpstreamFailed(curtain.model), cause, is_fault=is_fault, is_transient=False)


def late() -> ServiceError:
    return DeadlineExceeded("The request did not finish within its deadline.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `retry-after` as seconds or as a date."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
            return float(text) * scale
        if text:
            try:
                return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
            except (ValueError, OverflowError):
                continue
    return None


def _detail(body: bytes) -> Mapping[str, Any]:
    """The error's fields, as OpenAI, vLLM, text-generation-inference and FastAPI write them; else none."""
    try:
        said: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    fields = cast("Mapping[str, Any]", said)
    error: object = fields.get("error") or fields.get("detail") or fields
    if isinstance(error, dict):
        return cast("Mapping[str, Any]", error)
    return {"message": error if isinstance(error, str) else ""}


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
