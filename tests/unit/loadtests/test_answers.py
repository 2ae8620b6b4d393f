"""The readers of answers that are no streamed text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from loadtests.generator.answers import CompletedEvents, File, Lines, Reader, SpeechEvents, WholeList
from loadtests.sse import StreamCut, StreamFailed
from tests.unit.loadtests.fake_fleet import error, parts_of

Case = tuple[str, dict[str, Any], Callable[[], Reader], float, bool]

CASES: list[Case] = [
    ("/v1/images/generations", {"stream": True, "n": 2}, lambda: CompletedEvents(expected=2), 2, True),
    ("/v1/audio/generations", {"stream": True, "n": 2}, lambda: CompletedEvents(expected=2), 2, True),
    ("/v1/audio/speech", {"stream_format": "sse"}, SpeechEvents, 1, True),
    ("/v1/audio/speech", {}, File, 1, False),
    ("/v1/scores", {"stream": True, "input": ["a", "b", "c"]}, lambda: Lines(3), 3, True),
    ("/v1/scores", {"input": ["a", "b", "c"]}, lambda: WholeList("data", 3), 3, False),
    ("/v1/interpolations", {"frames": 4}, lambda: WholeList("frames", 4), 4, False),
]


def feed(reader: Reader, data: bytes, *, step: int) -> None:
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step], float(at))


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(("path", "body", "reader", "units", "_gaps"), CASES)
def test_an_answer_is_whole_whatever_pieces_it_comes_in(
    path: str, body: dict[str, Any], reader: Callable[[], Reader], units: float, _gaps: bool, step: int
) -> None:
    found, data = reader(), b"".join(parts_of(path, body)[1])
    feed(found, data, step=step)
    found.end()
    assert (found.units, found.size) == (units, len(data))


@pytest.mark.parametrize(("path", "body", "reader", "_units", "gaps"), CASES)
def test_pieces_have_times_where_an_answer_has_pieces(
    path: str, body: dict[str, Any], reader: Callable[[], Reader], _units: float, gaps: bool
) -> None:
    found = reader()
    for now, part in enumerate(parts_of(path, body)[1], start=5):
        found.feed(part, float(now))
    assert found.pace.first == (None if found.is_whole else 5.0)
    assert bool(found.pace.gaps) is gaps
    assert all(gap == 1 for gap in found.pace.gaps if gap != 2)  # 2: over an end that carries nothing


@pytest.mark.parametrize(("path", "body", "reader", "_units", "_gaps"), [case for case in CASES if case[2] is not File])
def test_an_answer_that_lacks_its_last_piece_is_no_answer(
    path: str, body: dict[str, Any], reader: Callable[[], Reader], _units: float, _gaps: bool
) -> None:
    found, parts = reader(), parts_of(path, body)[1]
    feed(found, b"".join(parts[:-1]), step=50)
    with pytest.raises(StreamFailed):
        found.end()


def test_an_empty_file_is_cut() -> None:
    with pytest.raises(StreamCut):
        File().end()


def test_fewer_things_than_were_asked_for_are_no_answer() -> None:
    for reader, data in (
        (Lines(2), b'{"object":"item"}\n{"object":"list.end"}\n'),
        (WholeList("data", 2), b'{"data":[1]}'),
    ):
        reader.feed(data, 0.0)
        with pytest.raises(StreamFailed, match="all of 2"):
            reader.end()
    images = CompletedEvents(expected=2)
    images.feed(b'data: {"type":"x.completed"}\n\ndata: [DONE]\n\n', 0.0)
    with pytest.raises(StreamCut, match="all of 2"):
        images.end()


def test_a_line_that_is_an_error_fails_the_list_and_a_number_called_error_does_not() -> None:
    lines = Lines(2)
    lines.feed(json.dumps({"object": "reconstruction", "error": 0.1}).encode() + b"\n", 0.0)
    with pytest.raises(StreamFailed, match="internal_error") as raised:
        lines.feed(error("internal_error") + b"\n", 0.0)
    assert raised.value.code == "internal_error"


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"other":[]}', b"<html>"])
def test_a_body_of_another_form_is_no_answer(data: bytes) -> None:
    whole = WholeList("data", 0)
    whole.feed(data, 0.0)
    with pytest.raises(StreamFailed, match="no JSON object with 'data'"):
        whole.end()


def test_a_line_after_the_end_fails() -> None:
    lines = Lines(0)
    lines.feed(b'{"object":"list.end"}\n', 0.0)
    with pytest.raises(StreamFailed):
        lines.feed(b'{"object":"item"}\n', 0.0)
