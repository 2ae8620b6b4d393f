"""Keys of the store: who gets in, when a change takes effect, and what happens while the store is away."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.gateway.logs import make_log
from services.gateway.store.database import STORE_FAILURES, Store, StoreError
from services.gateway.store.directory import Directory, NewKey
from services.gateway.store.migrating import migrate
from services.gateway.store.tables import tenants
from services.gateway.store_keys import StoreKeys
from services.gateway.tenants import ANYONE, Tenant
from shared.errors import InvalidApiKey
from tests.store_suite import Clock
from tests.unit.gateway.fakes import MODEL, OTHER, chat, make_gateway
from tests.unit.gateway.store_faults import bring_back, take_away

CHAT = "/v1/chat/completions"


def bearer(key: NewKey) -> str:
    return f"Bearer {key.text}"


class Bench:
    """A store in memory, its directory, and the keys of a gateway that follows it by hand."""

    def __init__(self, store: Store, *, is_open: bool = False) -> None:
        self.store = store
        self.clock = Clock()
        self.log = io.StringIO()
        self.directory = Directory(store, now=self.clock)
        self.keys = self.another(is_open=is_open)

    def another(self, *, is_open: bool = False, refresh_s: float = 3600.0) -> StoreKeys:
        log = make_log("INFO", self.log)
        return StoreKeys(self.directory, log, is_open=is_open, now=self.clock, refresh_s=refresh_s)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    store = Store("sqlite://")
    await migrate(store)
    yield Bench(store)
    await store.close()


async def test_a_key_names_its_tenant_with_all_limits(bench: Bench) -> None:
    made = await bench.directory.create_key("alice", lambda tenant: replace(tenant, concurrency=2))
    await bench.keys.refresh()
    assert bench.keys.tenant_of(bearer(made)) == Tenant("alice", concurrency=2)
    for wrong in (None, "Bearer ", "Bearer sk-castalia-wrong", f"Basic {made.text}", bearer(made) + "x"):
        with pytest.raises(InvalidApiKey):
            bench.keys.tenant_of(wrong)


async def test_without_any_key_everyone_is_let_in_on_loopback_alone(bench: Bench) -> None:
    on_loopback = bench.another(is_open=True)
    await on_loopback.refresh()
    assert on_loopback.tenant_of(None) is ANYONE
    with pytest.raises(InvalidApiKey):
        bench.keys.tenant_of(None)


async def test_from_the_first_key_on_keys_are_asked_for_and_so_it_stays(bench: Bench) -> None:
    on_loopback = bench.another(is_open=True)
    made = await bench.directory.create_key("alice")
    await on_loopback.refresh()
    with pytest.raises(InvalidApiKey):
        on_loopback.tenant_of(None)
    await bench.directory.revoke(made.stored.id)
    await on_loopback.refresh()
    with pytest.raises(InvalidApiKey):
        on_loopback.tenant_of(None)


async def test_whoever_needs_no_key_has_the_limits_of_the_tenant_default(bench: Bench) -> None:
    on_loopback = bench.another(is_open=True)
    await bench.directory.save_tenant(ANYONE.name, lambda tenant: replace(tenant, requests_per_minute=9))
    await on_loopback.refresh()
    assert on_loopback.tenant_of(None).requests_per_minute == 9
    assert on_loopback.tenant_named(ANYONE.name) == on_loopback.tenant_of(None)


async def test_a_revoked_key_is_refused_after_the_next_look(bench: Bench) -> None:
    made = await bench.directory.create_key("alice")
    await bench.keys.refresh()
    await bench.directory.revoke(made.stored.id)
    assert bench.keys.tenant_of(bearer(made)).name == "alice"
    await bench.keys.refresh()
    with pytest.raises(InvalidApiKey):
        bench.keys.tenant_of(bearer(made))
    assert bench.keys.tenant_named("alice") is None


async def test_a_rotated_key_runs_out_by_the_clock_without_another_look(bench: Bench) -> None:
    first = await bench.directory.create_key("alice")
    second, _ = await bench.directory.rotate(first.stored.id, grace_s=60)
    await bench.keys.refresh()
    assert {bench.keys.tenant_of(bearer(key)).name for key in (first, second)} == {"alice"}
    bench.clock.seconds += 61
    with pytest.raises(InvalidApiKey):
        bench.keys.tenant_of(bearer(first))
    assert bench.keys.tenant_of(bearer(second)).name == "alice"


async def test_a_changed_limit_holds_after_the_next_look(bench: Bench) -> None:
    made = await bench.directory.create_key("alice")
    await bench.keys.refresh()
    await bench.directory.save_tenant("alice", lambda tenant: replace(tenant, weight=3.0))
    await bench.keys.refresh()
    assert bench.keys.tenant_of(bearer(made)).weight == 3.0
    found = bench.keys.tenant_named("alice")
    assert found is not None
    assert found.weight == 3.0


async def test_nothing_is_read_again_while_nothing_has_changed(bench: Bench) -> None:
    await bench.directory.create_key("alice")
    for _ in range(3):
        await bench.keys.refresh()
    assert bench.events() == ["api_keys_read"]


async def test_a_store_that_cannot_be_read_locks_nobody_out_and_is_logged_once(bench: Bench) -> None:
    made = await bench.directory.create_key("alice")
    await bench.keys.refresh()
    await take_away(bench.store, "revisions")
    for _ in range(3):
        await bench.keys.refresh()
    assert bench.keys.tenant_of(bearer(made)).name == "alice"
    assert bench.events().count("api_keys_unreadable") == 1
    await bring_back(bench.store, "revisions")
    await bench.directory.revoke(made.stored.id)
    await bench.keys.refresh()
    with pytest.raises(InvalidApiKey):
        bench.keys.tenant_of(bearer(made))


class WatchedDirectory(Directory):
    """Says when it has been asked for its revision."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked = asyncio.Semaphore(0)

    async def revision(self) -> int:
        revision = await super().revision()
        self.asked.release()
        return revision

    async def looked(self) -> None:
        """Whoever looks again and again has read all that was written before the call."""
        self.asked = asyncio.Semaphore(0)
        for _ in range(
            3
        ):  # the first may have looked before; it reads after the second, at the latest before the third
            await self.asked.acquire()


async def test_a_gateway_follows_by_itself_until_it_closes(bench: Bench) -> None:
    directory = WatchedDirectory(bench.store)
    keys = StoreKeys(directory, make_log("INFO", bench.log), is_open=False, refresh_s=0.001)
    await keys.start()
    made = await directory.create_key("alice")
    await directory.looked()
    assert keys.tenant_named("alice") is not None
    await directory.revoke(made.stored.id)
    await directory.looked()
    assert keys.tenant_named("alice") is None
    await keys.close()


async def test_what_an_unreadable_tenant_breaks_is_mended_by_the_next_look(bench: Bench) -> None:
    made = await bench.directory.create_key("alice")
    async with bench.store.begin() as connection:
        await connection.execute(tenants.update().values(ceiling="of a later version"))
    await bench.keys.refresh()
    assert "api_keys_unreadable" in bench.events()
    async with bench.store.begin() as connection:
        await connection.execute(tenants.update().values(ceiling="batch"))
    await bench.keys.refresh()
    assert bench.keys.tenant_of(bearer(made)).name == "alice"


async def test_a_gateway_does_not_start_without_its_store(bench: Bench) -> None:
    await take_away(bench.store, "revisions")
    with pytest.raises(STORE_FAILURES):
        await bench.keys.start()
    gateway = make_gateway(database_url="postgresql://user:hunter2@127.0.0.1:1/name")
    with pytest.raises(StoreError) as error:
        await gateway.state.start()
    assert "hunter2" not in str(error.value) + gateway.log_text.getvalue()
    assert "Connect call failed" in gateway.log_lines("not_started")[0]["cause"]
    await gateway.state.close()


async def test_neither_key_nor_hash_reaches_log_or_answer(tmp_path: Path) -> None:
    gateway = make_gateway(host="0.0.0.0", database_url=f"sqlite:///{tmp_path}/store.db")
    await migrate(gateway.state.store)
    directory = Directory(gateway.state.store)
    made = await directory.create_key("alice")
    await gateway.state.start()
    async with gateway.client() as client:
        answers = [
            await client.post(CHAT, json=chat(), headers={"authorization": f"Bearer {key}"})
            for key in (made.text, made.text + "x")
        ]
    assert [answer.status_code for answer in answers] == [200, 401]
    (hashed,) = (await directory.admitted()).keys
    seen = gateway.log_text.getvalue() + "".join(str(answer.headers) + answer.text for answer in answers)
    for secret in (made.text, made.text.removeprefix("sk-castalia-"), hashed.hex(), str(hashed)):
        assert secret not in seen
    await gateway.state.close()


async def test_a_tenant_uses_its_models_and_priorities_and_no_others(tmp_path: Path) -> None:
    def limited(tenant: Tenant) -> Tenant:
        return replace(tenant, models=frozenset({MODEL}), ceiling=replace(ANYONE).priority(None))

    gateway = make_gateway(database_url=f"sqlite:///{tmp_path}/store.db")
    await migrate(gateway.state.store)
    made = await Directory(gateway.state.store).create_key("alice", limited)
    await gateway.state.start()

    async def post(body: dict[str, Any], **headers: str) -> tuple[int, str]:
        async with gateway.client(headers={"authorization": bearer(made), **headers}) as client:
            response = await client.post(CHAT, json=body)
        return response.status_code, response.json().get("error", {}).get("code", "")

    assert await post(chat()) == (200, "")
    assert await post({**chat(), "model": OTHER}) == (403, "model_not_allowed")
    assert await post(chat(), **{"x-castalia-priority": "interactive"}) == (403, "priority_not_allowed")
    await gateway.state.close()


async def test_only_an_operator_reads_the_figures_of_all_tenants(tmp_path: Path) -> None:
    gateway = make_gateway(database_url=f"sqlite:///{tmp_path}/store.db")
    await migrate(gateway.state.store)
    directory = Directory(gateway.state.store)
    await directory.save_tenant(ANYONE.name, lambda tenant: replace(tenant, concurrency=5))
    await gateway.state.start()
    async with gateway.client() as client:
        assert (await client.get("/metrics")).status_code == 200, "without a key there is nobody to hide from"
    alice = await directory.create_key("alice")
    scraper = await directory.create_key("scraper", lambda tenant: replace(tenant, is_operator=True))
    await gateway.state.keys.close()
    await gateway.state.keys.start()
    async with gateway.client() as client:
        answers = [await client.get("/metrics", headers={"authorization": bearer(made)}) for made in (alice, scraper)]
    assert [answer.status_code for answer in answers] == [403, 200]
    error = answers[0].json()["error"]
    assert (error["type"], error["code"]) == ("permission_error", "operator_only")
    await gateway.state.close()
