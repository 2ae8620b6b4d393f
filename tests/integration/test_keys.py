"""Keys and usage on a running fleet of its own: what the command line changes, the gateway knows within seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from services import fleet
from services.cli import app
from tests.integration.conftest import LocalFleet, checkpoint, start

KNOWN_S = 15.0  # a gateway looks every 2 s; a busy machine is slower
Castalia = Callable[..., str]


@pytest.fixture
def keyed_fleet(tmp_path: Path) -> Iterator[LocalFleet]:
    model = {"id": "gpt2", "source": checkpoint(tmp_path / "gpt2", "gpt2")}
    service = {"name": "only", "family": "transformer", "resources": {"num_cpus": 0.05, "memory": "1GiB"}}
    running = start(tmp_path, {"services": [{**service, "models": [model]}]}, name="keyed")
    try:
        yield running
    finally:
        fleet.down("keyed", running.settings.home)


@pytest.fixture
def castalia(keyed_fleet: LocalFleet, monkeypatch: pytest.MonkeyPatch) -> Castalia:
    monkeypatch.setenv("CASTALIA_HOME", str(keyed_fleet.settings.home))
    monkeypatch.delenv("CASTALIA_DATABASE_URL", raising=False)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    return run


def complete(keyed_fleet: LocalFleet, key: str | None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with keyed_fleet.http() as client:
        body = {"model": "gpt2", "prompt": "a", "max_tokens": 3, "temperature": 0}
        return client.post("/v1/completions", json=body, headers=headers).status_code


def wait_for(status: int, ask: Callable[[], int]) -> None:
    deadline = time.monotonic() + KNOWN_S
    while (got := ask()) != status:
        assert time.monotonic() < deadline, f"still {got} after {KNOWN_S:g} s"
        time.sleep(0.2)


def used(castalia: Castalia) -> dict[str, dict[str, float]]:
    return {row["tenant"]: row for row in json.loads(castalia("usage", "--json"))}


@pytest.mark.slow  # a fleet of its own
def test_a_key_lets_in_is_metered_and_ends_while_the_fleet_runs(keyed_fleet: LocalFleet, castalia: Castalia) -> None:
    assert complete(keyed_fleet, None) == httpx.codes.OK
    key = castalia("keys", "create", "alice", "--concurrency", "4")
    wait_for(httpx.codes.UNAUTHORIZED, lambda: complete(keyed_fleet, None))
    assert complete(keyed_fleet, key) == httpx.codes.OK

    with keyed_fleet.http() as client:
        report = client.get("/v1/usage", headers={"authorization": f"Bearer {key}"}).raise_for_status().json()
    assert (report["tenant"], report["total"]["requests"]) == ("alice", 1)
    assert report["total"]["completion_tokens"] == 3
    wait_for(True, lambda: "alice" in used(castalia))  # a gateway writes every 2 s
    stored = used(castalia)
    assert stored["alice"]["units"] == report["total"]["units"] > 0
    assert stored["default"]["requests"] >= 1

    (listed,) = json.loads(castalia("keys", "list", "--json"))
    castalia("keys", "revoke", listed["id"])
    wait_for(httpx.codes.UNAUTHORIZED, lambda: complete(keyed_fleet, key))
    assert key not in Path(keyed_fleet.state.log).read_text()
