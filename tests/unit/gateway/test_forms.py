"""Reading forms: whatever bytes come, there are fields or a refusal, and nothing else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.forms import parse_form
from shared.errors import InvalidRequest

CONTENT_TYPE = "multipart/form-data; boundary=x"
WHOLE = (
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na red heart\r\n'
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    b"\x00\r\n--x-\xff\r\n--x--\r\n"
)
FILES = frozenset({"image"})


def test_a_file_keeps_every_byte_even_where_it_looks_like_a_boundary() -> None:
    assert parse_form(WHOLE, CONTENT_TYPE, FILES) == {
        "prompt": "a red heart",
        "image": "data:image/png;base64,AA0KLS14Lf8=",
    }


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3)), max_size=4))
def test_a_damaged_form_is_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    body = WHOLE
    for place, other in changes:
        body = body[:place] + other + body[place + 1 :]
    with suppress(InvalidRequest):
        parse_form(body, CONTENT_TYPE, FILES)


@given(st.binary(max_size=200), st.text(st.characters(max_codepoint=255), max_size=60))
def test_arbitrary_bytes_and_types_are_read_or_refused(body: bytes, parameters: str) -> None:
    with suppress(InvalidRequest):
        parse_form(body, f"multipart/form-data; {parameters}", FILES)


def test_a_header_without_end_is_refused_before_it_is_held() -> None:
    endless = b"--x\r\nContent-Disposition: " + b"a" * 1_000_000
    with pytest.raises(InvalidRequest) as caught:
        parse_form(endless, CONTENT_TYPE, FILES)
    assert caught.value.code == "invalid_form"
