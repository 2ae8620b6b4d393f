"""Reading a form as it arrives: the same file and fields however its bytes are cut, or a refusal, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from services.gateway.disconnects import ClientGone
from services.gateway.uploads import Upload, begin_upload, read_upload
from shared.errors import ServiceError

WHOLE = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\nContent-Type: text/plain\r\n\r\n'
    b"\x00\r\n--x-\xff\r\n"
    b'\r\n--x\r\nContent-Disposition: form-data; name="later"\r\n\r\nyes\r\n--x--\r\n'
)


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def size(self) -> int:
        return len(self.data)

    async def write(self, data: bytes) -> None:
        self.data += data


def form_of(pieces: list[bytes], content_type: str = "multipart/form-data; boundary=x") -> Request:
    left = list(pieces)

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return Request({"type": "http", "headers": [(b"content-type", content_type.encode("latin-1"))]}, receive)


async def read(request: Request, sink: Kept) -> Upload:
    form = begin_upload(request, name="file", limit=1000)
    return await read_upload(request, form, sink, limit=1000, patience_s=10)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=6))
async def test_a_form_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in pairwise(ends)]
    kept = Kept()
    upload = await read(form_of(pieces), kept)
    assert (upload.filename, dict(upload.fields)) == ("a.jsonl", {"purpose": "batch", "later": "yes"})
    assert kept.data == b"\x00\r\n--x-\xff\r\n"


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3)), max_size=4))
async def test_a_damaged_form_is_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    body = WHOLE
    for place, other in changes:
        body = body[:place] + other + body[place + 1 :]
    with suppress(ServiceError, ClientGone):
        await read(form_of([body]), Kept())


@given(st.binary(max_size=200), st.text(st.characters(max_codepoint=255), max_size=60))
async def test_arbitrary_bytes_and_types_are_read_or_refused(body: bytes, parameters: str) -> None:
    request = form_of([body], f"multipart/form-data; {parameters}")
    with suppress(ServiceError, ClientGone):
        await read(request, Kept())
