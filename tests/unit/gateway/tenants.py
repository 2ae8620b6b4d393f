"""Gateways with files and batches that work, and clients of two tenants. The official client, strict."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from services.gateway.auth import new_key
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import FakeDispatcher, Gateway, make_gateway


@dataclass
class Clients:
    """Of one served gateway: two tenants, who hold a key each."""

    gateway: Gateway
    url: str
    keys: tuple[str, str]
    ours: openai.AsyncOpenAI
    theirs: openai.AsyncOpenAI


def make_lasting_gateway(folder: Path, dispatcher: FakeDispatcher | None = None, **env: Any) -> Gateway:
    """A gateway whose store and files are in the folder."""
    url = f"sqlite:///{folder / 'store.db'}"
    return make_gateway(dispatcher, **{"database_url": url, "blob_url": str(folder / "blobs"), **env})


@asynccontextmanager
async def two_tenants(
    folder: Path, serve: Serve, dispatcher: FakeDispatcher | None = None, **env: Any
) -> AsyncGenerator[Clients]:
    made = [new_key(name) for name in ("ours", "theirs")]
    keys_file = folder / "keys.txt"
    keys_file.write_text("\n".join(line for _, line in made))
    gateway = make_lasting_gateway(folder, dispatcher, api_keys_file=keys_file, **env)
    url = await serve(gateway.app)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                openai.AsyncOpenAI(
                    base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30, _strict_response_validation=True
                )
            )
            for key, _ in made
        ]
        yield Clients(gateway, url, (made[0][0], made[1][0]), clients[0], clients[1])
