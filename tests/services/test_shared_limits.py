"""Several gateways and one Redis: together they admit one budget, and what a killed one held comes back."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from services.gateway.limits.claims import Claim, Refusal
from services.gateway.limits.ledger import Ledger
from services.gateway.limits.places import LEASE_S, SharedPlaces
from services.gateway.limits.redis_storage import connect, counts_in
from services.gateway.tenants import Tenant
from shared.events import Accepted, Finished, RowEvent
from tests.services import servers
from tests.unit.gateway.fakes import FakeDispatcher, Gateway, chat, play
from tests.unit.gateway.limit_fakes import Now, limited_gateway

CHAT = "/v1/chat/completions"
HOLD = """
import asyncio, sys
from services.gateway.limits.places import SharedPlaces
from services.gateway.limits.redis_storage import connect

async def main():
    places = SharedPlaces(connect(sys.argv[1]), longest_s=60, lease_s=float(sys.argv[2]))
    for i in range(int(sys.argv[3])):
        assert await places.take("alice", f"held-{i}", limit=100)
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def gateways(count: int, tenant: Tenant, url: str, dispatcher: FakeDispatcher) -> AsyncGenerator[list[Gateway]]:
    made = [limited_gateway(tenant, dispatcher, redis_url=SecretStr(url)) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            await each.state.limiter.close()


def shared_ledger(url: str) -> Ledger:
    client = connect(url)
    return Ledger(counts_in(client), SharedPlaces(client, longest_s=60), now=Now())


async def flood(made: list[Gateway], count: int) -> list[httpx.Response]:
    """So many requests at once, spread over the gateways."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(each.client()) for each in made]
        posts = [clients[i % len(clients)].post(CHAT, json=chat()) for i in range(count)]
        return await asyncio.gather(*posts)


async def until(is_so: Callable[[], Awaitable[bool]], *, turns: int = 400) -> None:
    for _ in range(turns):
        if await is_so():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not come to be so")


async def test_two_gateways_admit_one_budget_of_requests(redis_url: str) -> None:
    tenant = Tenant("alice", requests_per_minute=100)
    async with gateways(2, tenant, redis_url, FakeDispatcher()) as made:
        answers = await flood(made, 260)
        metrics = [each.state.metrics.render([]).decode() for each in made]
    assert Counter(answer.status_code for answer in answers) == {200: 100, 429: 160}
    assert min(int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers) == 0
    assert all('castalia_limits_shared{gateway=""} 1.0' in each for each in metrics)
    assert all(each.log_lines("limits_not_shared") == [] for each in made)


async def test_without_redis_two_gateways_admit_two_budgets() -> None:
    tenant = Tenant("alice", requests_per_minute=20)
    made = [limited_gateway(tenant) for _ in range(2)]
    answers = await flood(made, 60)
    assert Counter(answer.status_code for answer in answers)[200] == 40


async def test_two_gateways_admit_one_budget_of_work(redis_url: str) -> None:
    """The estimate is far above the work: what is given back is admitted again, by either gateway, and no more."""
    estimate, work, budget = 90, 50, 2_000
    books = [shared_ledger(redis_url) for _ in range(2)]
    tenant = Tenant("alice", units_per_minute=budget, concurrency=6)

    async def keep_asking(name: str, book: Ledger) -> int:
        served = 0
        while not isinstance(charge := await book.take(Claim.of(tenant, f"{name}-{served}", estimate)), Refusal):
            await charge.settle(work)
            served += 1
        return served

    together = await asyncio.gather(*(keep_asking(f"{i}", books[i % 2]) for i in range(6)))
    alone = await keep_asking("last", books[0])  # what the others' open estimates kept from them
    assert sum(together) + alone == (budget - estimate) // work + 1
    assert sum(together[::2]) > 0
    assert sum(together[1::2]) > 0
    for book in books:
        await book.close()


async def test_two_gateways_share_places(redis_url: str) -> None:
    going = asyncio.Event()
    dispatcher = FakeDispatcher(default=play([RowEvent(0, Accepted(1))], going, [RowEvent(0, Finished("stop", 1))]))
    async with gateways(2, Tenant("alice", concurrency=3), redis_url, dispatcher) as made:
        answers = asyncio.create_task(flood(made, 8))

        async def are_refused() -> bool:
            return sum(len(each.log_lines()) for each in made) == 5 and dispatcher.open == 3

        await until(are_refused)
        going.set()
        assert Counter(answer.status_code for answer in await answers) == {200: 3, 429: 5}
        again = [(await flood(made, 2))[0].status_code for _ in range(3)]
    assert again == [200] * 3


async def test_the_places_of_a_killed_gateway_come_back(redis_url: str) -> None:
    places = SharedPlaces(connect(redis_url), longest_s=60, lease_s=1.0)
    arguments = [sys.executable, "-c", HOLD, redis_url, "1.0", "3"]
    gateway = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert gateway.stdout is not None
        assert await gateway.stdout.readline() == b"held\n"
        assert not await places.take("alice", "mine", limit=3)
    finally:
        gateway.kill()
        await gateway.communicate()
    assert not await places.take("alice", "mine", limit=3)

    async def is_free() -> bool:
        return await places.take("alice", "mine", limit=1)

    await until(is_free)
    await places.close()


async def test_a_place_outlives_its_lease_while_its_gateway_lives(redis_url: str) -> None:
    lease_s = 0.3
    held, other = (SharedPlaces(connect(redis_url), longest_s=60, lease_s=lease_s) for _ in range(2))
    async with redis.asyncio.from_url(redis_url) as client:
        began = (await client.time())[0]

        async def is_long_after() -> bool:
            return (await client.time())[0] >= began + 2

        assert await held.take("alice", "one", limit=1)
        await until(is_long_after)
        assert not await other.take("alice", "two", limit=1)
        await held.release("alice", "one")
        assert await other.take("alice", "two", limit=1)
    await held.close()
    await other.close()


async def test_a_place_that_nobody_frees_is_not_held_for_ever(redis_url: str) -> None:
    forgetful = SharedPlaces(connect(redis_url), longest_s=0.1, lease_s=0.3)
    other = SharedPlaces(connect(redis_url), longest_s=60)
    assert await forgetful.take("alice", "one", limit=1)

    async def is_free() -> bool:
        return await other.take("alice", "two", limit=1)

    await until(is_free)
    await forgetful.close()
    await other.close()


async def test_a_released_place_is_not_renewed_into_being(redis_url: str) -> None:
    client = connect(redis_url)
    places = SharedPlaces(client, longest_s=60)
    await places.take("alice", "one", limit=1)
    await client.delete("castalia:places/alice")
    await places._renew(keys=["castalia:places/alice"], args=[1000, "one"])
    assert await client.exists("castalia:places/alice") == 0
    await places.close()


async def test_a_repeated_take_keeps_its_place(redis_url: str) -> None:
    """As when the answer to the first was lost on its way."""
    places = SharedPlaces(connect(redis_url), longest_s=60)
    assert await places.take("alice", "one", limit=1)
    assert await places.take("alice", "one", limit=1)
    assert not await places.take("alice", "two", limit=1)
    await places.close()


async def test_nothing_stays_in_redis_for_ever(redis_url: str) -> None:
    tenant = Tenant("alice", requests_per_minute=5, units_per_minute=1_000_000, concurrency=5)
    async with gateways(1, tenant, redis_url, FakeDispatcher()) as made:
        await flood(made, 10)
    async with redis.asyncio.from_url(redis_url) as client:
        keys = await client.keys("*")
        lives = {key: await client.pttl(key) for key in keys}
    assert keys
    assert all(0 < life <= max(120, LEASE_S) * 1000 for life in lives.values()), lives


async def test_a_redis_that_dies_under_load_stops_nobody() -> None:
    tenant = Tenant("alice", requests_per_minute=1000, concurrency=50)
    with servers.redis_server() as server:
        async with gateways(2, tenant, server.url, FakeDispatcher()) as made:
            before = await flood(made, 20)
            async with redis.asyncio.from_url(server.url) as client:
                await client.shutdown(nosave=True)
            after = await flood(made, 40)
            logged = [len(each.log_lines("limits_not_shared")) for each in made]
    assert {answer.status_code for answer in before + after} == {200}
    assert logged == [1, 1]


async def test_what_redis_forgot_is_not_granted_twice(redis_url: str) -> None:
    book = shared_ledger(redis_url)
    tenant = Tenant("alice", units_per_minute=100)
    charge = await book.take(Claim.of(tenant, "1", 90))
    assert not isinstance(charge, Refusal)
    async with redis.asyncio.from_url(redis_url) as client:
        await client.flushall()
    await charge.settle(0)
    assert (await book.look(Claim.of(tenant, "", 0)))["x-ratelimit-remaining-tokens"] == "100"
    await book.close()


@given(costs=st.lists(st.integers(1, 60), min_size=1, max_size=30))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_ledgers_at_once_never_admit_more_than_the_budget(redis_url: str, costs: list[int]) -> None:
    asyncio.run(_admit(redis_url, costs))


async def _admit(url: str, costs: list[int]) -> None:
    async with redis.asyncio.from_url(url) as client:
        await client.flushall()
    books = [shared_ledger(url) for _ in range(2)]
    tenant = Tenant("alice", units_per_minute=100)
    claims = [Claim.of(tenant, str(i), cost) for i, cost in enumerate(costs)]
    found = await asyncio.gather(*(books[i % 2].take(claim) for i, claim in enumerate(claims)))
    admitted = sum(cost for cost, each in zip(costs, found, strict=True) if not isinstance(each, Refusal))
    left = int((await books[0].look(claims[0]))["x-ratelimit-remaining-tokens"])
    assert 0 <= admitted <= 100
    assert left == 100 - admitted
    for book in books:
        await book.close()
