"""Reading server-sent events, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.upstreams.sse import BadStream, EventReader

STREAM = (
    b': ping\n\ndata: {"a":1}\n\nevent: x\nid: 7\ndata: two\ndata:lines\r\n\r\n\n\n'
    b"data: \xe2\x98\x83\n\ndata: [DONE]\n\n"
)
EVENTS = [b'{"a":1}', b"two\nlines", "☃".encode(), b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    reader = EventReader()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [data for a, b in pairwise(places) for data in reader.feed(STREAM[a:b])]
    assert found + reader.end() == EVENTS


def test_a_last_event_without_its_blank_line_is_not_lost() -> None:
    reader = EventReader()
    assert reader.feed(b"data: a\n\ndata: b") == [b"a"]
    assert reader.end() == [b"b"]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 60, b"data: 12345678901234567890\n" * 3, b"x" * 60])
def test_an_event_without_end_is_given_up(piece: bytes) -> None:
    with pytest.raises(BadStream, match="50 bytes"):
        EventReader(max_event=50).feed(piece)
