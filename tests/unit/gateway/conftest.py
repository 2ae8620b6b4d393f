from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import openai
import pytest
import uvicorn
from starlette.types import ASGIApp

from tests.unit.gateway.fakes import Gateway, make_gateway

Serve = Callable[[ASGIApp], Awaitable[str]]


@pytest.fixture
def gateway() -> Gateway:
    return make_gateway()


class _Server(uvicorn.Server):
    """Says when it has started, instead of being polled."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def _serving(app: ASGIApp) -> AsyncGenerator[str]:
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        task = asyncio.create_task(server._serve([listener]))  # `serve` would take the signals over
        await server.up.wait()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def serve() -> AsyncGenerator[Serve]:
    """Serve an application by uvicorn on a free port of 127.0.0.1, until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(app: ASGIApp) -> str:
            return await stack.enter_async_context(_serving(app))

        yield start


@pytest.fixture
async def client(gateway: Gateway, serve: Serve) -> AsyncGenerator[openai.AsyncOpenAI]:
    """The official client, which validates every answer strictly."""
    url = await serve(gateway.app)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client
