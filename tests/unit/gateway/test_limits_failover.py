"""A Redis that is down, slow or strange: nobody waits for it, everybody is still limited, and it is said once."""

from __future__ import annotations

import asyncio
import io
import socket
import time
from collections.abc import AsyncGenerator, Mapping

import pytest
from pydantic import SecretStr
from redis.exceptions import ResponseError

from services.gateway.limits.claims import Claim, Refusal
from services.gateway.limits.failover import Failover
from services.gateway.limits.ledger import Book
from services.gateway.limits.patience import in_time
from services.gateway.limits.protocols import Charge
from services.gateway.limits.redis_storage import CONNECTIONS
from services.gateway.logs import make_log
from services.gateway.tenants import Tenant
from shared.errors import RateLimited
from tests.unit.gateway.fakes import Clock, chat
from tests.unit.gateway.limit_fakes import Limits, ledger, limited_gateway

CHAT = "/v1/chat/completions"
ALICE = Tenant("alice", requests_per_minute=2, concurrency=5, is_operator=True)


class Remote:
    """A ledger that fails as it is told to: with an error, or without an answer."""

    def __init__(self, limits: Limits) -> None:
        self.failure: Exception | None = None
        self.is_silent = False
        self.asked = 0
        self._book = ledger(limits.now)

    async def take(self, claim: Claim) -> Charge | Refusal:
        await self._travel()
        found = await self._book.take(claim)
        return found if isinstance(found, Refusal) else RemoteCharge(found, self)

    async def look(self, claim: Claim) -> Mapping[str, str]:
        await self._travel()
        return await self._book.look(claim)

    async def close(self) -> None:
        """Nothing is held."""

    async def _travel(self) -> None:
        self.asked += 1
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure


class RemoteCharge:
    def __init__(self, charge: Charge, remote: Remote) -> None:
        self._charge = charge
        self._remote = remote

    @property
    def headers(self) -> Mapping[str, str]:
        return self._charge.headers

    async def settle(self, units: float | None) -> None:
        await self._remote._travel()
        await self._charge.settle(units)


class Bench:
    """A failover between a remote ledger and an own one."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.remote = Remote(self.limits)
        self.clock = Clock()
        self.is_shared: list[bool] = []
        self.log = io.StringIO()
        book: Book = Failover(
            self.remote,
            ledger(self.limits.now),
            make_log("INFO", self.log),
            clock=self.clock,
            on_change=self.is_shared.append,
            timeout_s=0.02,
            retry_s=1.0,
        )
        self.limiter = self.limits.limiter(book)
        self._count = 0

    async def take(self) -> Charge:
        self._count += 1
        return await self.limiter.take(ALICE, request_id=str(self._count), units=1)


@pytest.fixture(params=["error", "silence"])
def bench(request: pytest.FixtureRequest) -> Bench:
    bench = Bench()
    bench.remote.failure = ConnectionRefusedError("no")
    bench.remote.is_silent = request.param == "silence"
    return bench


async def test_without_redis_a_gateway_grants_a_budget_of_its_own(bench: Bench) -> None:
    for _ in range(2):
        await bench.take()
    with pytest.raises(RateLimited):
        await bench.take()
    assert bench.log.getvalue().count("limits_not_shared") == 1
    assert bench.is_shared == [True, False]


async def test_a_lost_redis_is_asked_by_one_request_a_second(bench: Bench) -> None:
    await bench.take()
    await bench.take()
    assert bench.remote.asked == 1
    bench.clock.seconds += 1.0
    for _ in range(3):
        with pytest.raises(RateLimited):
            await bench.take()
    assert bench.remote.asked == 2


async def test_a_redis_that_is_back_holds_the_budget_again(bench: Bench) -> None:
    await bench.take()
    bench.remote.failure, bench.remote.is_silent = None, False
    bench.clock.seconds += 1.0
    assert (await bench.take()).headers["x-ratelimit-remaining-requests"] == "1"
    assert bench.is_shared == [True, False, True]
    assert "limits_shared_again" in bench.log.getvalue()


async def test_a_charge_that_cannot_be_settled_disturbs_nobody(bench: Bench) -> None:
    failure, is_silent = bench.remote.failure, bench.remote.is_silent
    bench.remote.failure, bench.remote.is_silent = None, False
    charge = await bench.take()
    bench.remote.failure, bench.remote.is_silent = failure, is_silent
    await charge.settle(3)
    assert bench.is_shared == [True, False]


async def test_a_redis_that_refuses_commands_counts_as_lost() -> None:
    bench = Bench()
    bench.remote.failure = ResponseError("READONLY You can't write against a read only replica.")
    await bench.take()
    assert bench.is_shared == [True, False]


@pytest.fixture
async def silent_port() -> AsyncGenerator[int]:
    """Of a server that takes connections and never answers."""

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stay, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("kind", ["closed", "silent"])
async def test_a_gateway_whose_redis_does_not_answer_serves_and_limits(
    kind: str, silent_port: int, closed_port: int
) -> None:
    port = silent_port if kind == "silent" else closed_port
    url = SecretStr(f"redis://:hidden-word@127.0.0.1:{port}/0")
    gateway = limited_gateway(ALICE, redis_url=url)
    async with gateway.client() as client:
        statuses = [(await client.post(CHAT, json=chat())).status_code for _ in range(3)]
        metrics = (await client.get("/metrics")).text
    await gateway.state.limiter.close()
    assert statuses == [200, 200, 429]
    assert 'castalia_limits_shared{gateway=""} 0.0' in metrics
    assert len(gateway.log_lines("limits_not_shared")) == 1
    assert "hidden-word" not in gateway.log_text.getvalue()


def test_several_gateways_without_redis_say_so() -> None:
    assert limited_gateway(ALICE, gateway_replicas=2).log_lines("limits_not_shared")
    assert not limited_gateway(ALICE, gateway_replicas=1).log_lines("limits_not_shared")


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379"])
def test_an_address_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="redis://"):
        limited_gateway(ALICE, redis_url=SecretStr(url))


async def test_a_busy_loop_is_not_taken_for_a_slow_answer() -> None:
    """The loop is held for longer than the patience, while the answer is there."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ask() -> str:
        asyncio.get_running_loop().call_soon(answer.set_result, "there")
        time.sleep(0.05)  # noqa: ASYNC251 - what a burst of requests does
        return await answer

    assert await in_time(ask(), 0.02) == "there"


async def test_who_stops_waiting_leaves_nothing_running() -> None:
    ended = asyncio.Event()

    async def ask() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await in_time(ask(), 0.02)
    assert ended.is_set()


async def test_none_of_those_in_line_waits_for_a_redis_that_was_lost_meanwhile() -> None:
    bench = Bench()
    bench.remote.is_silent = True
    found = await asyncio.gather(*(bench.take() for _ in range(CONNECTIONS * 3)), return_exceptions=True)
    assert bench.remote.asked == CONNECTIONS
    assert sum(not isinstance(each, RateLimited) for each in found) == 2


async def test_nobody_waits_to_settle_with_a_redis_that_is_lost(bench: Bench) -> None:
    failure, is_silent = bench.remote.failure, bench.remote.is_silent
    bench.remote.failure, bench.remote.is_silent = None, False
    charges = [await bench.take() for _ in range(2)]
    bench.remote.failure, bench.remote.is_silent = failure, is_silent
    await charges[0].settle(None)
    asked = bench.remote.asked
    await charges[1].settle(None)
    assert bench.remote.asked == asked  # it is tried, but later
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.remote.asked == asked + 1
    await bench.limiter.close()


async def test_a_request_that_goes_away_as_it_is_admitted_keeps_no_place() -> None:
    bench = Bench()
    one = Tenant("alice", concurrency=1)
    for turns in range(8):  # one of which lies between Redis' answer and the request's learning of it
        task = asyncio.create_task(bench.limiter.take(one, request_id=f"gone {turns}", units=1))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (found,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(found, BaseException):
            await found.settle(0)
        for _ in range(4):
            await asyncio.sleep(0)
        await (await bench.limiter.take(one, request_id=f"next {turns}", units=1)).settle(0)
