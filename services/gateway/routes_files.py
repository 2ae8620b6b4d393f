"""Owns `/v1/files`: what batches read, uploaded by clients, and what they write. Bytes pass through, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from services.gateway.answer_docs import call_responses, path_parameter, read_responses
from services.gateway.blobs import BlobMissing
from services.gateway.files import FILE_ID, File, Files
from services.gateway.forms import FORM
from services.gateway.queries import query_parameters, read_query
from services.gateway.record import record_of
from services.gateway.state import GatewayState
from services.gateway.store_guard import needing_store
from services.gateway.uploads import begin_upload, nested, read_upload
from services.gateway.validation import refusal_in
from shared.errors import NotFound
from shared.schemas.files import LIFETIME_S, FileDeleted, FileList, FileObject, FileQuery, FileUpload

FILE_FIELD = "file"
_FILE_ID = path_parameter("file_id")
_OCTETS = "application/octet-stream"
_BYTES: dict[str, Any] = {
    "content": {_OCTETS: {"schema": {"type": "string", "format": "binary"}}},
    "description": "The bytes.",
}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": [FILE_FIELD, "purpose"],
                    "properties": {
                        FILE_FIELD: {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": LIFETIME_S},
                    },
                }
            }
        },
    }
}


def files_router(state: GatewayState, files: Files) -> APIRouter:
    router = APIRouter(tags=["files"])

    @router.post("/v1/files", summary="Upload a file", responses=call_responses(FileObject), openapi_extra=_FORM)
    async def create(request: Request) -> FileObject:
        settings = state.settings
        limit, patience_s = int(settings.max_file), settings.body_timeout_s
        tenant = record_of(request.scope).tenant.name
        form = begin_upload(request, name=FILE_FIELD, limit=limit)
        with needing_store(state.log):
            await files.check_room(tenant)
            async with files.receiving() as (file_id, sink):
                upload = await read_upload(request, form, sink, limit=limit, patience_s=patience_s)
                given = _checked(upload.fields)
            now = state.tempo.now()
            lifetime_s = LIFETIME_S if given.expires_after is None else given.expires_after.seconds
            file = File(
                file_id,
                tenant,
                upload.filename,
                given.purpose,
                sink.size,
                sink.sha256,
                now,
                expires_at=now + lifetime_s,
            )
            await files.add(file)
        return file.shown()

    @router.get(
        "/v1/files",
        summary="The files, newest first",
        responses=read_responses(400, 503),
        openapi_extra={"parameters": query_parameters(FileQuery)},
    )
    async def list_files(request: Request) -> FileList:
        query = read_query(request, FileQuery)
        with needing_store(state.log):
            found, has_more = await files.page(record_of(request.scope).tenant.name, query)
        data = [file.shown() for file in found]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, first_id=ends[0], last_id=ends[1], has_more=has_more)

    @router.get("/v1/files/{file_id}", summary="One file", responses=read_responses(404, 503), openapi_extra=_FILE_ID)
    async def get_file(request: Request) -> FileObject:
        with needing_store(state.log):
            return (await files.find(*_named(request))).shown()

    @router.delete(
        "/v1/files/{file_id}",
        summary="Delete a file",
        responses=read_responses(404, 409, 503),
        openapi_extra=_FILE_ID,
    )
    async def delete_file(request: Request) -> FileDeleted:
        tenant, file_id = _named(request)
        with needing_store(state.log):
            await files.remove(tenant, file_id)
        return FileDeleted(id=file_id)

    @router.get(
        "/v1/files/{file_id}/content",
        summary="The bytes of a file",
        response_class=StreamingResponse,
        responses={200: _BYTES, **read_responses(404, 503)},
        openapi_extra=_FILE_ID,
    )
    async def content(request: Request) -> StreamingResponse:
        with needing_store(state.log):
            file = await files.find(*_named(request))
            pieces = files.blobs.pieces(file.id)
            try:
                first = await anext(pieces, b"")
            except BlobMissing:  # removed since
                raise NotFound("There is no such file.", param="file_id") from None
        headers = {"content-length": str(file.bytes)}
        return StreamingResponse(_whole(first, pieces), media_type=_OCTETS, headers=headers)

    return router


def _named(request: Request) -> tuple[str, str]:
    """The caller's tenant, and the file's id. Raises NotFound for what can be none, before a store is asked."""
    file_id = request.path_params["file_id"]
    if FILE_ID.fullmatch(file_id) is None:
        raise NotFound("There is no such file.", param="file_id")
    return record_of(request.scope).tenant.name, file_id


async def _whole(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _checked(fields: Mapping[str, str]) -> FileUpload:
    data = nested(fields)
    try:
        return FileUpload.model_validate_strings(data, strict=False)
    except ValidationError as error:
        raise refusal_in(error, data) from None
