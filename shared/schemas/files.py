"""Owns the files' wire format, OpenAI's: what a batch reads and writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.schemas.common import RequestModel, ResponseModel

DAY_S = 24 * 3600
LIFETIME_S = 30 * DAY_S  # of a file that asks for no other
ID = "^[A-Za-z0-9_-]{1,64}$"
Lifetime = Annotated[int, Field(ge=3600, le=LIFETIME_S, description="seconds after the file was made")]
Purpose = Literal["batch", "batch_output"]


class ExpiresAfter(RequestModel):
    """How long a file is kept."""

    anchor: Literal["created_at"]
    seconds: Lifetime


class FileUpload(RequestModel):
    """The fields of an upload beside the file itself. `batch_output` files are made by batches alone."""

    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


class FileQuery(RequestModel):
    """How the list of files is cut and ordered."""

    limit: int = Field(default=1000, ge=1, le=10000, description="a page has 1,000 at most, whatever is asked for")
    after: str | None = Field(default=None, pattern=ID, description="the id of the last file of the page before")
    order: Literal["asc", "desc"] = Field(default="desc", description="by the time of creation")
    purpose: Purpose | None = None


class FileObject(ResponseModel):
    """Times are in seconds since the epoch."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(ResponseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(ResponseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
