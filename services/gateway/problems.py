"""Owns how a failure looks on the wire: status, headers and the four-key body. Never decides what is a failure."""

from __future__ import annotations

import json
import math
import random

from shared.errors import ServiceError
from shared.events import Failed

MIN_RETRY_AFTER_S = 1
# A tenant's own limit says when there is room; overload only guesses. Over 120 the official client gives up.
MAX_RETRY_AFTER_S = {429: 120, 503: 30}
JITTER = 1.5


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
    most = MAX_RETRY_AFTER_S.get(failure.status)
    if most is None:
        return {}
    least = max(MIN_RETRY_AFTER_S, math.ceil(min(failure.retry_after or 0, most / JITTER)))
    headers = {"retry-after": str(rng.randint(least, math.ceil(least * JITTER)))}
    if retries >= 1:
        headers["x-should-retry"] = "false"
    return headers
