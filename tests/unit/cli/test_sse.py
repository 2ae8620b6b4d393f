import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.sse import read_events


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data:a\r\n\r\n", ["a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b": ping\n\n: ping\n\ndata: a\n\n", ["a"]),
        (b"event: x\nid: 1\ndata: a\n\n", ["a"]),
        ("data: line\u2028separator\u0085\x0b\x0c\n\n".encode(), ["line\u2028separator\u0085\x0b\x0c"]),
        (b"data: never ended\n", []),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(stream: bytes, events: list[str]) -> None:
    assert list(read_events([stream])) == events


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))), st.integers(1, 7))
def test_no_way_of_cutting_the_bytes_changes_the_events(texts: list[str], size: int) -> None:
    stream = b"".join(f"data: {text}\n\n".encode() for text in texts)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert list(read_events(chunks)) == texts
