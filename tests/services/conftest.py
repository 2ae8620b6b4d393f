"""Real Redis and PostgreSQL for these tests: one server of each for all of them, emptied before each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.services.servers import PostgresServer, RedisServer
from tests.services.servers import postgres_server as start_postgres
from tests.services.servers import redis_server as start_redis


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.services)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with start_postgres() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis, as `redis://127.0.0.1:port/0`."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of its own, as `postgresql+asyncpg://user:password@127.0.0.1:port/name`."""
    name = f"test_{secrets.token_hex(8)}"
    postgres_server.create(name)
    yield postgres_server.url(name)
    postgres_server.drop(name)
