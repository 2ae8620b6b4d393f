"""Owns reading a form with one file in it as it arrives: the file's bytes go on at once, and are never held whole.

Fields may come before the file or after it. Never sees what they mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from services.gateway.bodies import LEAST_BYTES_PER_S
from services.gateway.disconnects import ClientGone
from services.gateway.forms import FORM, bad_form, boundary_of, text_of
from shared.errors import InvalidRequest, RequestTooLarge, RequestTooSlow, UnsupportedMediaType

GATHER = 2**20  # bytes that wait to be written together
MAX_FIELD = 1024  # bytes of a text field
MAX_FIELDS = 8
MAX_FILENAME = 256
OVERHEAD = 64 * 1024  # bytes of a form beside its file


class Sink(Protocol):
    """Where the file's bytes go, in order."""

    @property
    def size(self) -> int: ...
    async def write(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Upload:
    """What came beside the file's bytes."""

    filename: str
    fields: Mapping[str, str]


def begin_upload(request: Request, *, name: str, limit: int) -> Form:
    """What the request's headers tell of its form, before anything is read or kept.

    Raises UnsupportedMediaType, InvalidRequest, RequestTooLarge.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise UnsupportedMediaType(f"The content type must be {FORM}.", param="content-type")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit + OVERHEAD):
        raise _too_large(limit, declared[:18])
    return Form(content_type, name)


async def read_upload(request: Request, form: Form, sink: Sink, *, limit: int, patience_s: float) -> Upload:
    """Read the form that has begun and write its file to the sink.

    Raises InvalidRequest, RequestTooLarge for a file of more than `limit` bytes, RequestTooSlow
    when it takes longer than `patience_s` and its size allow, ClientGone.
    """
    got = 0
    ends = asyncio.get_running_loop().time() + patience_s
    try:
        async with asyncio.timeout_at(ends) as patience:
            async for piece in request.stream():
                got += len(piece)
                form.feed(piece)
                if sink.size + len(form.gathered) > limit or got > limit + OVERHEAD:
                    raise _too_large(limit, f"more than {limit}")
                if len(form.gathered) >= GATHER:
                    await sink.write(form.take())
                patience.reschedule(ends + got / LEAST_BYTES_PER_S)
    except ClientDisconnect:
        raise ClientGone from None
    except TimeoutError:
        raise RequestTooSlow(limit_s=patience_s, rate=LEAST_BYTES_PER_S, got=got) from None
    upload = form.end()
    await sink.write(form.take())
    return upload


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    name: str = ""
    filename: str | None = None
    text: bytearray = field(default_factory=bytearray)


class Form:
    """Takes a form apart as it arrives; the file's bytes gather until they are taken."""

    def __init__(self, content_type: str, name: str) -> None:
        boundary = boundary_of(content_type)
        self.gathered = bytearray()
        self._file_name = name
        self._filename: str | None = None
        self._fields: dict[str, str] = {}
        self._part = _Part()
        self._header, self._value = b"", b""
        self._is_whole = False
        try:
            self._parser = self._make(boundary)
        except FormParserError:
            raise bad_form("its boundary is too long") from None

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError:
            raise bad_form("its parts cannot be told apart") from None

    def take(self) -> bytes:
        """What gathered of the file since the last call."""
        data = bytes(self.gathered)
        self.gathered.clear()
        return data

    def end(self) -> Upload:
        if not self._is_whole:
            raise bad_form("it ends before its last boundary")
        if self._filename is None:
            name = self._file_name
            raise InvalidRequest(f"Field '{name}' is required.", param=name, code="missing_required_parameter")
        return Upload(self._filename, self._fields)

    def _make(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._part.headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        disposition = self._part.headers.get(b"content-disposition", b"").decode("latin-1")
        options = parse_options_header(disposition)[1]
        self._part.name = text_of(options.get(b"name", b""), "name")
        if not self._part.name:
            raise bad_form("a part has no name")
        if b"filename" in options:
            self._part.filename = text_of(options[b"filename"], "filename")
            if len(self._part.filename) > MAX_FILENAME or not self._part.filename.isprintable():
                raise InvalidRequest(f"A filename may have {MAX_FILENAME} printable characters.", param=self._part.name)
        self._check_place()

    def _check_place(self) -> None:
        """The file's field has a file, once; others have texts, once each and few."""
        name, shown = self._part.name, self._part.name[:64]
        is_file = self._part.filename is not None
        if is_file != (name == self._file_name):
            problem = "is no file: send it without a filename" if is_file else "must be a file: send it with a filename"
            raise InvalidRequest(f"Field '{shown}' {problem}.", param=shown)
        if name in self._fields or (is_file and self._filename is not None):
            raise InvalidRequest(f"Field '{shown}' may be given once; got more.", param=shown)
        if len(self._fields) == MAX_FIELDS:
            raise InvalidRequest(f"A form may have {MAX_FIELDS} fields beside its file; got more.", code="invalid_form")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is not None:
            self.gathered += data[start:end]
            return
        self._part.text += data[start:end]
        if len(self._part.text) > MAX_FIELD:
            shown = self._part.name[:64]
            raise InvalidRequest(f"Field '{shown}' may have {MAX_FIELD} bytes; got more.", param=shown)

    def _part_end(self) -> None:
        part = self._part
        if part.filename is not None:
            self._filename = part.filename
        else:
            self._fields[part.name] = text_of(bytes(part.text), part.name)

    def _end(self) -> None:
        self._is_whole = True


def nested(fields: Mapping[str, str]) -> dict[str, object]:
    """`a[b]`, as clients write objects in forms, as an object in an object. Raises InvalidRequest for what clashes."""
    whole: dict[str, object] = {}
    inner: dict[str, dict[str, object]] = {}
    for name, value in fields.items():
        outer, bracket, rest = name.partition("[")
        if bracket and rest.endswith("]"):
            inner.setdefault(outer, {})[rest[:-1]] = value
        else:
            whole[name] = value
    for name, value in inner.items():
        if name in whole:
            raise InvalidRequest(f"Field '{name[:64]}' is given both as a text and as an object.", param=name[:64])
        whole[name] = value
    return whole


def _too_large(limit: int, got: str) -> RequestTooLarge:
    return RequestTooLarge(f"A file may have at most {limit} bytes; got {got}.")
