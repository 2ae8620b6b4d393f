"""The loads over a fleet's capacity: what counts as in time, as a refusal in good form, and as lost."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from loadtests.fairness import Shares, fairness_goals
from loadtests.open_loop import Reply, ask, closed_loop, goodput, open_loop, refusal_p95
from loadtests.overload import Stage, overload_goals
from loadtests.saturated import Goal, plain, write
from tests.unit.loadtests.test_client import server

ERROR = {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}


def refusal(body: object, *headers: str) -> bytes:
    data = json.dumps(body).encode()
    lines = ["HTTP/1.1 503 Service Unavailable", f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


async def status_of(reply: bytes, *, patience_s: float = 10) -> Reply:
    async with server(reply) as (url, _):
        return await ask(url, {}, headers={"x-a": "b"}, patience_s=patience_s)


def replied(seconds: float, status: int = 200, *, at: float = 0.0) -> Reply:
    return Reply(at, at + seconds, status)


async def test_a_request_carries_its_headers() -> None:
    async with server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as (url, received):
        assert (await ask(url, {"a": 1}, headers={"x-a": "b"}, patience_s=10)).status == 200
    assert b"x-a: b\r\n" in received[0]


@pytest.mark.parametrize(
    ("reply", "is_well_formed"),
    [
        (refusal(ERROR, "Retry-After: 1"), True),
        (refusal(ERROR, "Retry-After: 30"), True),
        (refusal(ERROR, "Retry-After: 31"), False),
        (refusal(ERROR, "Retry-After: 0"), False),
        (refusal(ERROR, "Retry-After: soon"), False),
        (refusal(ERROR), False),
        (refusal({"error": {"message": "m"}}, "Retry-After: 1"), False),
        (refusal({"detail": "busy"}, "Retry-After: 1"), False),
        (refusal("busy", "Retry-After: 1"), False),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nRetry-After: 1\r\n\r\nbusy", False),
    ],
)
async def test_a_refusal_has_the_four_keys_and_a_time_to_come_again(reply: bytes, is_well_formed: bool) -> None:
    found = await status_of(reply)
    assert (found.status, found.is_refusal, found.is_well_formed) == (503, True, is_well_formed)


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", refusal(ERROR)[:-1]])
async def test_what_is_cut_short_is_lost(reply: bytes) -> None:
    found = await status_of(reply)
    assert (found.status, bool(found.cause)) == (0, True)


async def test_what_nobody_answers_is_lost_when_patience_ends() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes
        writer.close()
        await writer.wait_closed()
        gone.set()

    gone = asyncio.Event()

    hung = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with hung:
        url = f"http://127.0.0.1:{hung.sockets[0].getsockname()[1]}/v1/x"
        assert (await ask(url, {}, headers={}, patience_s=0.01)).status == 0
        await gone.wait()


async def test_an_open_loop_sends_on_time_whatever_becomes_of_the_requests() -> None:
    release, sent = asyncio.Event(), 0

    async def send() -> Reply:
        nonlocal sent
        sent += 1
        if sent == 20:
            release.set()
        await release.wait()  # none is answered before the last was sent
        return replied(1.0)

    assert len(await open_loop(send, per_second=10_000, seconds=0.002)) == 20


async def test_a_closed_loop_keeps_its_clients_busy_until_the_end() -> None:
    flying = most = 0

    async def send() -> Reply:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return Reply(time.perf_counter(), time.perf_counter(), 200)

    assert await closed_loop(send, clients=3, seconds=0.01)
    assert most == 3


def test_goodput_counts_answers_in_time_that_ended_inside_the_window() -> None:
    replies = [
        replied(0.5),  # ends before the window
        replied(2.0),
        replied(9.0, at=1.0),  # late
        replied(0.1, 503, at=2.0),
        replied(1.0, at=2.0),
        replied(3.0, at=4.0),  # ends after it
    ]
    assert goodput(replies, deadline_s=5.0, after_s=1.0, seconds=5.0) == 2 / 4


def test_the_p95_of_refusals_is_theirs_alone() -> None:
    assert refusal_p95([replied(9.0), *(replied(i / 100, 503) for i in range(100))]) == 0.95


def stages(ratio: float, **changes: int) -> dict[str, Stage]:
    peak, twice = Stage(), Stage()
    peak.take([replied(1.0)])
    twice.take([replied(1.0), replied(0.01, 503), *(replied(0.1, status) for status in changes.values())])
    peak.goodput, twice.goodput = [10.0], [10.0 * ratio]
    return {"peak": peak, "2x": twice}


def test_every_promise_is_a_goal_and_a_broken_one_is_not_met() -> None:
    assert all(goal.met for goal in overload_goals(stages(0.95)))
    for broken, name in (
        (stages(0.85), "2x: goodput / peak"),
        (stages(1.0, lost=0), "2x: lost or hung"),
        (stages(1.0, late=504), "2x: late / admitted"),
        (stages(1.0, error=500), "2x: refusals not well-formed, and other failures"),
    ):
        assert [goal.name for goal in overload_goals(broken) if not goal.met] == [name]


def test_fairness_is_the_p95_beside_the_flood_over_that_at_the_fair_share() -> None:
    shares = Shares(2, fair=[1.0] * 20, flooded=[1.4] * 20)
    shares.flood.update({200: 400, 503: 100})
    assert all(goal.met for goal in fairness_goals([shares]))
    shares.flooded = [1.6] * 17
    shares.flood.update({0: 1, 503: 500})
    assert not any(goal.met for goal in fairness_goals([shares]))


def test_a_report_says_what_was_got_wanted_and_met(tmp_path: Path) -> None:
    goals = [Goal("ratio", 0.95, 0.9, is_least=True), Goal("p95", 60.0, 50, is_least=False)]
    path = write(tmp_path, "overload", "What it is.", goals, {"peak": plain(stages(1.0)["2x"])}, 60.0)
    text = path.read_text()
    assert "| ratio | 0.95 | at least 0.9 | yes |" in text
    assert "| p95 | 60 | at most 50 | no |" in text
    assert json.loads((tmp_path / "overload.json").read_text())["figures"]["peak"]["statuses"] == {"200": 1, "503": 1}
