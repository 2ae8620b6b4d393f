"""Owns the batches' wire format, OpenAI's, and the table of operations that a batch may run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from shared.schemas.common import RequestModel, ResponseModel
from shared.schemas.files import ID, ExpiresAfter

# What a batch may run: every operation that generates. True where a body may hold pictures, and be as large as they.
ENDPOINTS: Mapping[str, bool] = {
    "/v1/chat/completions": False,
    "/v1/completions": False,
    "/v1/responses": False,
    "/v1/images/generations": False,
    "/v1/images/edits": True,
    "/v1/images/variations": True,
    "/v1/interpolations": True,
    "/v1/audio/generations": False,
    "/v1/scores": True,
    "/v1/embeddings": True,
    "/v1/reconstructions": True,
    "/v1/records/generations": False,
    "/v1/levels/generations": False,
    "/v1/molecules/generations": False,
    "/v1/music/generations": False,
    "/v1/forecasts": False,
}
WINDOW_S = 24 * 3600
MAX_METADATA = 16
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]


def _known(endpoint: str) -> str:
    if endpoint not in ENDPOINTS:
        raise PydanticCustomError("endpoint", "Batches run {known}", {"known": ", ".join(ENDPOINTS)})
    return endpoint


Endpoint = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(ENDPOINTS)})]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class BatchRequest(RequestModel):
    """`input_file_id` is of a file of JSON lines: `{"custom_id", "method": "POST", "url", "body"}`."""

    input_file_id: str = Field(pattern=ID)
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=MAX_METADATA)
    output_expires_after: ExpiresAfter | None = None


class BatchQuery(RequestModel):
    """How the list of batches, newest first, is cut."""

    limit: int = Field(default=20, ge=1, le=100)
    after: str | None = Field(default=None, pattern=ID, description="the id of the last batch of the page before")


class BatchError(ResponseModel):
    """Why a batch could not begin. `line` counts the input file's lines from 1."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(ResponseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(ResponseModel):
    """Lines, as they stand now. Those that an expiry or a cancellation kept from running are in `total` alone."""

    total: int
    completed: int
    failed: int


class InputDetails(ResponseModel):
    cached_tokens: Literal[0] = 0


class OutputDetails(ResponseModel):
    reasoning_tokens: Literal[0] = 0


class BatchUsage(ResponseModel):
    """Tokens of all lines that have a result."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class BatchObject(ResponseModel):
    """Times are in seconds since the epoch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(ResponseModel):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
