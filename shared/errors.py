"""Owns every error that a client can see, with its HTTP status. Never sees HTTP.

ServiceError
├── InvalidRequest 400
│   ├── ContextTooLong, UnsupportedTask
├── InvalidApiKey 401, ModelNotAllowed 403
├── NotFound 404 ── ModelNotFound
├── MethodNotAllowed 405, Conflict 409, RequestTooLarge 413, UnsupportedMediaType 415
├── RateLimited 429
├── InternalError 500
├── Overloaded 503 ── ModelLoading
└── DeadlineExceeded 504
"""

from __future__ import annotations

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


class InvalidApiKey(ServiceError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ModelNotAllowed(ServiceError):
    status = 403
    type = "permission_error"
    code = "model_not_allowed"


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
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


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


class DeadlineExceeded(ServiceError):
    status = 504
    code = "deadline_exceeded"
