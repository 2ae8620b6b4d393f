"""The load generator: what it counts, and what it takes for a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from loadtests.client import Answer, ServerFailed, Window, closed_loop, post
from loadtests.workload import Job

JOB = Job("hello", 5, 10)
OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def server(reply: bytes) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """Answers each connection with these bytes, then closes it. Gives its URL and what it was sent."""
    received: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        received.append(head + await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0])))
        writer.write(reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/x", received


async def body(url: str) -> bytes:
    return b"".join([data async for data in post(url, {"é": 1})])


async def test_post_sends_json_and_joins_chunks() -> None:
    async with server(OK + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n") as (url, received):
        assert await body(url) == b"abcde"
    assert received[0].startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert received[0].endswith(b'{"\\u00e9": 1}')


async def test_post_reads_a_body_of_stated_length() -> None:
    async with server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as (url, _):
        assert await body(url) == b"hi"


async def test_a_cut_body_is_a_failure() -> None:
    async with server(OK + b"3\r\nabc\r\n") as (url, _):
        with pytest.raises(asyncio.IncompleteReadError):
            await body(url)


@pytest.mark.parametrize("length", [b"4\r\n\r\nbusy", b"0\r\n\r\n"])
async def test_a_refusal_is_a_failure_that_says_its_status(length: bytes) -> None:
    async with server(b"HTTP/1.1 503 Busy\r\nContent-Length: " + length) as (url, _):
        with pytest.raises(ServerFailed, match="503"):
            await body(url)


def window(*answers: Answer) -> Window:
    return Window(10.0, 20.0, answers, client_cpu_s=1.0)


def test_tokens_count_for_the_time_that_an_answer_spends_inside_the_window() -> None:
    across, inside, after = Answer(5, 6, 15, 100), Answer(11, 12, 13, 7), Answer(18, 19, 28, 50)
    measured = window(across, inside, after)
    assert measured.tokens == pytest.approx(50 + 7 + 10)
    assert measured.tokens_per_second == pytest.approx(6.7)
    assert measured.client_cpu_share == pytest.approx(0.1)


def test_first_text_is_taken_from_answers_that_began_inside_the_window() -> None:
    waits = [Answer(11, 11 + wait, 19, 1) for wait in (1.0, 2.0, 3.0, 4.0)]
    measured = window(Answer(5, 9.5, 15, 1), *waits)
    assert measured.first_text_quantile(0.5) == pytest.approx(3)
    assert measured.first_text_quantile(0.95) == pytest.approx(4)


def test_a_window_shorter_than_an_answer_still_has_a_first_text() -> None:
    assert window(Answer(5, 25, 25, 9)).first_text_quantile(0.5) == pytest.approx(20)


def endless() -> Iterator[Job]:
    return repeat(JOB)


async def test_the_loop_ends_only_after_every_answer_that_was_in_flight_at_the_edge() -> None:
    in_flight = most = 0

    async def send(job: Job) -> Answer:
        nonlocal in_flight, most
        import time

        started = time.perf_counter()
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.03)
        in_flight -= 1
        return Answer(started, started, time.perf_counter(), job.output_tokens)

    edges: list[int] = []
    measured = await closed_loop(
        send, endless(), clients=3, warm_s=0.04, window_s=0.1, at_edge=lambda: edges.append(in_flight)
    )
    assert most == 3
    assert len(edges) == 2
    assert sum(answer.started < measured.ended < answer.ended for answer in measured.answers) == 3


async def test_a_failed_request_ends_the_loop() -> None:
    async def send(job: Job) -> Answer:
        raise ServerFailed("500")

    with pytest.raises(ExceptionGroup) as raised:
        await closed_loop(send, endless(), clients=2, warm_s=60, window_s=60, at_edge=lambda: None)
    assert raised.group_contains(ServerFailed)
