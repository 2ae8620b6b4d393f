"""Owns every error that a client can see, with its HTTP status. Never sees HTTP.

ServiceError
├── InvalidRequest 400
│   ├── ContextTooLong, UnsupportedTask, RequestTooSlow
├── InvalidApiKey 401
├── ModelNotAllowed 403, PriorityNotAllowed 403, OperatorOnly 403
├── NotFound 404 ── ModelNotFound
├── MethodNotAllowed 405, Conflict 409, RequestTooLarge 413, UnsupportedMediaType 415
├── RateLimited 429 ── QuotaExhausted
├── InternalError 500
├── Overloaded 503 ── ModelLoading, UpstreamFailed, StoreUnavailable
└── DeadlineExceeded 504
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """A failure with a documented status, type and code.

    `message` is shown to the client: it says what was wrong, the limit, and what was got, and never holds a path,
    a traceback or another client's data. `param` names the request's field by path, as `messages[0].content`.
    `retry_after` is in seconds.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code
        self.retry_after = retry_after


class InvalidRequest(ServiceError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class ContextTooLong(InvalidRequest):
    code = "context_length_exceeded"

    def __init__(self, *, limit: int, got: int, param: str | None = None, detail: str = "") -> None:
        super().__init__(f"This model's maximum context length is {limit} tokens; got {got}{detail}.", param=param)


class UnsupportedTask(InvalidRequest):
    code = "unsupported_task"

    def __init__(self, *, model: str, task: str, tasks: tuple[str, ...]) -> None:
        does = ", ".join(tasks)
        super().__init__(f"Model '{model}' does not do '{task}'; it does: {does}.", param="model")


class RequestTooSlow(InvalidRequest):
    """400, and not 408, which the official clients take for a fault of ours and try again."""

    code = "request_timeout"

    def __init__(self, *, limit_s: float, rate: int, got: int) -> None:
        super().__init__(
            f"The request's body may take {limit_s:g} seconds to arrive, and another for each {rate} bytes; "
            f"{got} bytes have come in that time."
        )


class InvalidApiKey(ServiceError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ModelNotAllowed(ServiceError):
    status = 403
    type = "permission_error"
    code = "model_not_allowed"


class PriorityNotAllowed(ServiceError):
    status = 403
    type = "permission_error"
    code = "priority_not_allowed"

    def __init__(self, *, asked: str, ceiling: str) -> None:
        message = f"This key's requests have priority '{ceiling}' at best; got '{asked}'."
        super().__init__(message, param="x-castalia-priority")


class OperatorOnly(ServiceError):
    status = 403
    type = "permission_error"
    code = "operator_only"


class NotFound(ServiceError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"Model '{model}' does not exist here; GET /v1/models lists those that do.", param="model")


class MethodNotAllowed(ServiceError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(ServiceError):
    status = 409
    type = "invalid_request_error"
    code = "conflict"


class RequestTooLarge(ServiceError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaType(ServiceError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class RateLimited(ServiceError):
    """A tenant's own limit. `headers` are the response's `x-ratelimit-*`."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.headers = dict(headers or {})


class QuotaExhausted(RateLimited):
    code = "insufficient_quota"


class InternalError(ServiceError):
    """A fault of ours. The cause goes to the log under the request id; the client gets this sentence alone."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The server failed to answer this request; quote the x-request-id header when reporting it.")


class Overloaded(ServiceError):
    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"


class ModelLoading(Overloaded):
    code = "model_loading"


class StoreUnavailable(Overloaded):
    """The store does not answer. What needs it is refused; generation goes on."""

    code = "store_unavailable"


class UpstreamFailed(Overloaded):
    """The server that runs the model is out of order, or refuses our account. Which of these is for the log."""

    code = "upstream_failed"

    def __init__(self, model: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"The server behind model '{model}' failed to answer.", retry_after=retry_after)


class DeadlineExceeded(ServiceError):
    status = 504
    code = "deadline_exceeded"
