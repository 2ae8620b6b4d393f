"""Owns how a failure looks on the wire: status, headers and the four-key body. Never decides what is a failure."""

from __future__ import annotations

import json
import math
import random

from shared.errors import ServiceError
from shared.events import Failed

MIN_RETRY_AFTER_S = 1
MAX_RETRY_AFTER_S = 30
RETRYABLE = frozenset({429, 503})


class CallFailed(Exception):
    """A replica's failure, received as data."""

    def __init__(self, failure: Failed) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: ServiceError | CallFailed) -> Failed:
    return error.failure if isinstance(error, CallFailed) else Failed.of(error)


def error_body(failure: Failed) -> bytes:
    """The body of an error response, and the data of an error event."""
    detail = {"message": failure.message, "type": failure.type, "param": failure.param, "code": failure.code}
    return json.dumps({"error": detail}).encode()


def error_headers(failure: Failed, *, retries: int, rng: random.Random) -> dict[str, str]:
    """`retry-after` spreads clients out by up to a half; clients that have retried already are told to stop."""
    if failure.status not in RETRYABLE:
        return {}
    least = max(MIN_RETRY_AFTER_S, math.ceil(failure.retry_after or 0))
    seconds = rng.randint(least, math.ceil(least * 1.5))
    headers = {"retry-after": str(min(MAX_RETRY_AFTER_S, seconds))}
    if retries >= 1:
        headers["x-should-retry"] = "false"
    return headers
