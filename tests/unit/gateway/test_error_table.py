"""The table of errors: what a client is told for each, and that the tree at the top of `shared/errors.py` is whole."""

from __future__ import annotations

import inspect
import json

import pytest

from services.gateway.problems import error_body
from shared import errors
from shared.errors import (
    ContextTooLong,
    InternalError,
    ModelNotFound,
    PriorityNotAllowed,
    RequestTooSlow,
    ServiceError,
    UnsupportedTask,
    UpstreamFailed,
)
from shared.events import Failed

TABLE = {
    "InvalidRequest": (400, "invalid_request_error", "invalid_value"),
    "ContextTooLong": (400, "invalid_request_error", "context_length_exceeded"),
    "UnsupportedTask": (400, "invalid_request_error", "unsupported_task"),
    "RequestTooSlow": (400, "invalid_request_error", "request_timeout"),
    "InvalidApiKey": (401, "invalid_request_error", "invalid_api_key"),
    "ModelNotAllowed": (403, "permission_error", "model_not_allowed"),
    "PriorityNotAllowed": (403, "permission_error", "priority_not_allowed"),
    "OperatorOnly": (403, "permission_error", "operator_only"),
    "NotFound": (404, "invalid_request_error", "not_found"),
    "ModelNotFound": (404, "invalid_request_error", "model_not_found"),
    "MethodNotAllowed": (405, "invalid_request_error", "method_not_allowed"),
    "Conflict": (409, "invalid_request_error", "conflict"),
    "RequestTooLarge": (413, "invalid_request_error", "request_too_large"),
    "UnsupportedMediaType": (415, "invalid_request_error", "unsupported_media_type"),
    "RateLimited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "QuotaExhausted": (429, "rate_limit_error", "insufficient_quota"),
    "InternalError": (500, "server_error", "internal_error"),
    "Overloaded": (503, "service_unavailable_error", "server_is_overloaded"),
    "ModelLoading": (503, "service_unavailable_error", "model_loading"),
    "StoreUnavailable": (503, "service_unavailable_error", "store_unavailable"),
    "UpstreamFailed": (503, "service_unavailable_error", "upstream_failed"),
    "DeadlineExceeded": (504, "server_error", "deadline_exceeded"),
}
OWN_WORDS = {
    ContextTooLong: lambda: ContextTooLong(limit=8, got=9),
    UnsupportedTask: lambda: UnsupportedTask(model="m", task="sing", tasks=("chat",)),
    RequestTooSlow: lambda: RequestTooSlow(limit_s=30, rate=65536, got=9),
    ModelNotFound: lambda: ModelNotFound("m"),
    UpstreamFailed: lambda: UpstreamFailed("m"),
    InternalError: InternalError,
    PriorityNotAllowed: lambda: PriorityNotAllowed(asked="interactive", ceiling="batch"),
}
CLASSES = {
    name: found
    for name, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, ServiceError) and found is not ServiceError
}


def made(kind: type[ServiceError]) -> ServiceError:
    make = OWN_WORDS.get(kind)
    return make() if make else kind("It is so.", retry_after=2.0)


def test_every_error_is_in_the_table_and_in_the_tree() -> None:
    assert CLASSES.keys() == TABLE.keys()
    assert errors.__doc__ is not None
    assert [name for name in CLASSES if name not in errors.__doc__] == []


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_has_its_documented_status_type_and_code_on_the_wire(name: str) -> None:
    failure = Failed.of(made(CLASSES[name]))
    error = json.loads(error_body(failure))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (failure.status, error["type"], error["code"]) == TABLE[name]
    assert error["message"].endswith(".")
