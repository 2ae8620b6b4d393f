"""Owns reading a form with files (RFC 7578, `multipart/form-data`): from bytes to the data that a schema checks.

A file becomes a `data:` URL, so that a schema knows one way in which a file comes. Never sees what fields mean.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Set
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.errors import InvalidRequest

FORM = "multipart/form-data"
MAX_PARTS = 64
MAX_FIELD = 1024 * 1024  # bytes of one text field
UNKNOWN_TYPE = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")


@dataclass(slots=True)
class _Part:
    """One part as it is read. `filename` alone tells a file from a field."""

    headers: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    name: str = ""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


def parse_form(body: bytes, content_type: str, files: Set[str]) -> dict[str, str]:
    """The fields by name; those in `files` may come as files, and become `data:` URLs in base64.

    `name[]`, as clients write lists, is `name`. Raises InvalidRequest: not such a form, over `MAX_PARTS` parts or
    `MAX_FIELD` bytes in a text field, a field that comes twice, a file in a field that takes none, or no UTF-8.
    """
    fields: dict[str, str] = {}
    for part in _Reader(content_type).read(body):
        name = part.name.removesuffix("[]") if part.name.removesuffix("[]") in files else part.name
        if name in fields:
            raise InvalidRequest(f"Field '{name[:64]}' may be given once; got more.", param=name[:64])
        _check(part, name, files)
        fields[name] = _data_url(part) if part.is_file else text_of(part.data, name)
    return fields


def _check(part: _Part, name: str, files: Set[str]) -> None:
    if part.is_file and name not in files:
        raise InvalidRequest(f"Field '{name[:64]}' is no file: send it without a filename.", param=name[:64])
    if not part.is_file and len(part.data) > MAX_FIELD:
        raise InvalidRequest(f"Field '{name[:64]}' may have {MAX_FIELD} bytes; send more as a file.", param=name[:64])


def _data_url(part: _Part) -> str:
    """With the type that the part declares: whoever decodes it compares it with what it is."""
    declared = part.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    media_type = declared if _MEDIA_TYPE.fullmatch(declared) else UNKNOWN_TYPE
    return f"data:{media_type};base64,{base64.b64encode(part.data).decode('ascii')}"


def boundary_of(content_type: str) -> bytes:
    """What separates the parts. Raises InvalidRequest."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise bad_form("the content type names no boundary")
    return boundary


def text_of(data: bytes | bytearray, name: str) -> str:
    """A part's text. Raises InvalidRequest, which names the field."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"Field '{name[:64]}' must be text in UTF-8.", param=name[:64]) from None


class _Reader:
    """Collects the parts of one body."""

    def __init__(self, content_type: str) -> None:
        self._boundary = boundary_of(content_type)
        self._parts: list[_Part] = []
        self._name, self._value = b"", b""
        self._is_whole = False

    def read(self, body: bytes) -> list[_Part]:
        try:
            parser = MultipartParser(
                self._boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
            parser.write(body)
        except FormParserError:
            raise bad_form("its parts cannot be told apart") from None
        if not self._is_whole:
            raise bad_form("it ends before its last boundary")
        return self._parts

    def _begin(self) -> None:
        if len(self._parts) == MAX_PARTS:
            raise InvalidRequest(f"A form may have at most {MAX_PARTS} parts; got more.", code="invalid_form")
        self._parts.append(_Part())

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._parts[-1].headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_finished(self) -> None:
        part = self._parts[-1]
        disposition = part.headers.get(b"content-disposition", b"").decode("latin-1")
        options = parse_options_header(disposition)[1]
        if not options.get(b"name"):
            raise bad_form("a part has no name")
        part.name = text_of(options[b"name"], "name")
        part.is_file = b"filename" in options

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].data += data[start:end]

    def _end(self) -> None:
        self._is_whole = True


def bad_form(what: str) -> InvalidRequest:
    """What a body is refused with that is no form."""
    return InvalidRequest(f"The body is not a valid {FORM}: {what}.", code="invalid_form")
