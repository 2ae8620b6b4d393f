"""The reader of streamed answers, on which every load figure stands."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.sse import StreamCut, StreamFailed, TextStream


def event(**payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}], usage=None)


USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10})
WHOLE = b": ping\n\n" + delta("") + delta("é") + delta("b", "stop") + USAGE + b"data: [DONE]\n\n"


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_the_pieces_that_bytes_arrive_in_do_not_matter(cuts: list[int]) -> None:
    stream = TextStream(started=0.0)
    edges = [0, *sorted(cuts), len(WHOLE)]
    for start, stop in itertools.pairwise(edges):
        stream.feed(WHOLE[start:stop], now=1.0)
    stream.end()
    assert (stream.tokens, stream.finish_reason, stream.size) == (7, "stop", len(WHOLE))


def test_times_count_from_the_first_text_not_from_the_role_or_a_comment() -> None:
    stream = TextStream(started=10.0)
    for data, now in ((b": ping\n\n" + delta(""), 10.5), (delta("a"), 11.0), (delta("b", "stop") + USAGE, 13.0)):
        stream.feed(data, now)
    assert stream.time_to_first_token == 1.0
    assert stream.tokens_per_second == 3.0  # 7 tokens, the first at 11, the last at 13


def test_an_error_event_fails_the_stream_with_its_code() -> None:
    stream = TextStream(started=0.0)
    with pytest.raises(StreamFailed, match="internal_error: it broke"):
        stream.feed(
            event(error={"message": "it broke", "type": "server_error", "param": None, "code": "internal_error"}), 0
        )


@pytest.mark.parametrize("sent", [b"", delta("a"), delta("a", "stop"), delta("a") + b"data: [DONE]\n\n"])
def test_an_answer_without_its_end_is_cut(sent: bytes) -> None:
    stream = TextStream(started=0.0)
    stream.feed(sent, 0)
    with pytest.raises(StreamCut):
        stream.end()


@pytest.mark.parametrize("sent", [b"data: {oops\n\n", b"data: [DONE]\n\n" + delta("late")])
def test_what_is_no_event_of_the_format_fails(sent: bytes) -> None:
    with pytest.raises(StreamFailed):
        TextStream(started=0.0).feed(sent, 0)
