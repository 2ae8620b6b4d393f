"""`castalia keys`, `tenants`, `usage`, `db`: what they change in the store, what they show, what they never show."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.gateway.store.database import Store
from services.gateway.store.directory import Admitted, Directory
from services.gateway.store.usage_rows import UsageRow, add_usage
from services.gateway.tenants import Tenant
from shared.calls import Priority
from tests.unit.cli.conftest import Run

ResultT = TypeVar("ResultT")

TODAY = datetime.now(UTC).date()


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/home/castalia.db"


def use(database: str, action: Callable[[Store], Awaitable[ResultT]]) -> ResultT:
    async def run() -> ResultT:
        store = Store(database)
        try:
            return await action(store)
        finally:
            await store.close()

    return asyncio.run(run())


def admitted(database: str) -> Admitted:
    return use(database, lambda store: Directory(store).admitted())


def listed(run: Run, *options: str) -> list[dict[str, Any]]:
    return json.loads(run("keys", "list", "--json", *options).stdout)


def test_a_created_key_has_standard_output_for_itself_and_is_kept_as_a_hash(run: Run, database: str) -> None:
    result = run("keys", "create", "alice")
    key = result.stdout.removesuffix("\n")
    (kept,) = admitted(database).keys
    assert key.startswith("sk-castalia-")
    assert kept == hashlib.sha256(key.encode()).digest()
    (shown,) = listed(run)
    assert shown["id"] in result.stderr
    assert key not in result.stderr + run("keys", "list").stdout + run("tenants", "list").stdout
    assert key.encode() not in b"".join(file.read_bytes() for file in Path("home").iterdir())


def test_the_limits_of_a_new_tenant_are_those_that_were_given(run: Run, database: str) -> None:
    limits = ("--models", "a, org/b", "--requests-per-minute", "60", "--units-per-minute", "1000", "--concurrency", "4")
    more = (
        "--priority-ceiling",
        "batch",
        "--weight",
        "0.5",
        "--units-per-month",
        "9000",
        "--max-deadline-s",
        "1.5",
        "--operator",
    )
    assert run("keys", "create", "alice", *limits, *more).exit_code == 0
    assert admitted(database).tenants["alice"] == Tenant(
        "alice",
        weight=0.5,
        ceiling=Priority.BATCH,
        models=frozenset({"a", "org/b"}),
        requests_per_minute=60,
        units_per_minute=1000,
        concurrency=4,
        units_per_month=9000,
        longest_s=1.5,
        is_operator=True,
    )
    run("tenants", "set", "alice", "--no-operator")
    assert not admitted(database).tenants["alice"].is_operator


def test_a_second_key_leaves_the_tenants_limits_as_they_are(run: Run, database: str) -> None:
    run("keys", "create", "alice", "--concurrency", "4")
    run("keys", "create", "alice", "--weight", "2")
    assert admitted(database).tenants["alice"] == Tenant("alice", weight=2.0, concurrency=4)
    assert len(listed(run, "--tenant", "alice")) == 2
    assert listed(run, "--tenant", "bob") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "a:b"),
        ("keys", "create", "alice", "--models", " , "),
        ("keys", "revoke", "key_none"),
        ("keys", "rotate", "key_none"),
        ("keys", "rotate", "key_none", "--grace", "soon"),
        ("tenants", "set", "a:b"),
        ("tenants", "set", "alice", "--concurrency", "2", "--clear", "concurrency"),
        ("usage", "--since", "yesterday"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    run: Run, database: str, arguments: tuple[str, ...]
) -> None:
    run("db", "upgrade")
    result = run(*arguments)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert admitted(database) == Admitted()


@pytest.mark.parametrize("option", ["--requests-per-minute", "--concurrency", "--weight", "--max-deadline-s"])
def test_a_limit_of_nothing_is_refused(run: Run, option: str) -> None:
    assert run("keys", "create", "alice", option, "0").exit_code == 2


def test_a_revoked_key_has_ended_once(run: Run, database: str) -> None:
    run("keys", "create", "alice")
    (key,) = listed(run)
    assert run("keys", "revoke", key["id"]).exit_code == 0
    (ended,) = admitted(database).keys.values()
    assert not ended.is_live(datetime.now(UTC).timestamp())
    assert "ended" in run("keys", "list").stdout
    assert run("keys", "revoke", key["id"]).exit_code == 1


def test_a_rotated_key_lives_through_its_grace(run: Run) -> None:
    run("keys", "create", "alice")
    (old,) = listed(run)
    made = json.loads(run("keys", "rotate", old["id"], "--grace", "2h", "--json").stdout)
    assert made["key"].startswith("sk-castalia-")
    by_id = {key["id"]: key for key in listed(run)}
    assert by_id[made["id"]]["expires_at"] is None
    left = by_id[old["id"]]["expires_at"] - datetime.now(UTC).timestamp()
    assert 7000 < left <= 7200


def test_a_tenants_limits_change_and_go(run: Run, database: str) -> None:
    run("tenants", "set", "alice", "--concurrency", "4", "--models", "a", "--max-deadline-s", "3")
    run("tenants", "set", "alice", "--weight", "2", "--clear", "models", "--clear", "max-deadline-s")
    assert admitted(database).tenants == {"alice": replace(Tenant("alice"), weight=2.0, concurrency=4)}
    (shown,) = json.loads(run("tenants", "list", "--json").stdout)
    assert (shown["tenant"], shown["concurrency"], shown["models"]) == ("alice", 4, None)
    assert "alice" in run("tenants", "list").stdout


def test_usage_is_shown_by_tenant_and_model_or_by_day(run: Run, database: str) -> None:
    run("db", "upgrade")
    days = [str(TODAY), str(TODAY - timedelta(days=40))]
    rows = [UsageRow(t, "tiny", day, 1, 2, 3, 0, 1234.0) for t in ("alice", "bob") for day in days]

    async def add(store: Store) -> None:
        async with store.begin() as connection:
            await add_usage(connection, rows)

    use(database, add)
    since = str(TODAY - timedelta(days=60))
    this_month = json.loads(run("usage", "--json").stdout)
    assert [(row["tenant"], row["units"]) for row in this_month] == [("alice", 1234.0), ("bob", 1234.0)]
    of_alice = json.loads(run("usage", "--tenant", "alice", "--since", since, "--json").stdout)
    assert [(row["requests"], row["units"]) for row in of_alice] == [(2, 2468.0)]
    daily = json.loads(run("usage", "--tenant", "alice", "--since", since, "--daily", "--json").stdout)
    assert [row["day"] for row in daily] == days[::-1]
    assert "1,234" in run("usage").stdout
    assert "nothing was used" in run("usage", "--tenant", "carol").stdout


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://user:hunter2@127.0.0.1:1/name", "Connect call failed"),
        ("mysql://user:hunter2@host/name", "mysql"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, says: str
) -> None:
    monkeypatch.setenv("CASTALIA_DATABASE_URL", url)
    result = run("keys", "list")
    assert result.exit_code == 1
    assert says in result.stderr
    assert "hunter2" not in result.output


def test_a_new_key_is_shown_once_and_only_its_hash_is_kept_in_the_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    first, second = (run("keys", "new", name, "--file", str(file)).stdout.strip() for name in ("alice", "bob"))
    assert first != second
    assert file.read_text() == "".join(
        f"{name}:{hashlib.sha256(key.encode()).hexdigest()}\n" for name, key in (("alice", first), ("bob", second))
    )
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_new_key_without_a_file_shows_the_line_apart_from_the_key(run: Run) -> None:
    result = run("keys", "new", "alice")
    assert result.stdout.startswith("sk-")
    assert hashlib.sha256(result.stdout.strip().encode()).hexdigest() in result.stderr


def test_a_name_that_the_file_could_not_hold_is_refused(run: Run) -> None:
    assert run("keys", "new", "a:b").exit_code == 1
