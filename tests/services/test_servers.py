"""The test bench itself: the servers answer, are reached from this machine alone, and start every test empty."""

from __future__ import annotations

import psutil
import pytest
import redis.asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.services.servers import PostgresServer, RedisServer


def listening(port: int) -> set[str]:
    """The addresses that this port listens on."""
    connections = psutil.net_connections("inet")
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN and each.laddr.port == port}


async def test_redis_counts_what_two_clients_add(redis_url: str) -> None:
    async with redis.asyncio.from_url(redis_url) as one, redis.asyncio.from_url(redis_url) as other:
        await one.incrby("units", 2)
        assert await other.incrby("units", 3) == 5


async def test_postgres_answers_through_asyncpg(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        version = (await connection.execute(text("SHOW server_version"))).scalar_one()
    await engine.dispose()
    assert int(version.partition(".")[0]) >= 13


def test_no_other_machine_reaches_them(redis_server: RedisServer, postgres_server: PostgresServer) -> None:
    assert listening(redis_server.port) == {"127.0.0.1"}
    assert listening(postgres_server.port) == {"127.0.0.1"}


@pytest.mark.parametrize("turn", ["first", "second"])
async def test_a_test_never_sees_what_another_left(turn: str, redis_url: str, postgres_url: str) -> None:
    """The same test twice: the second would find the key and the table of the first."""
    async with redis.asyncio.from_url(redis_url) as client:
        assert await client.set("left", turn, nx=True)
    engine = create_async_engine(postgres_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE leftovers (id integer)"))
    await engine.dispose()
