"""A terminal-less terminal: the command line run in-process, with a home of its own and no fleet running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli import app
from services.cli.context import Tools
from tests.unit.cli.fleets import FakeFleets, Pauses
from tests.unit.cli.wire_server import WireServer, serving

Run = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[WireServer]:
    with serving() as server:
        yield server


@pytest.fixture
def fleets() -> FakeFleets:
    return FakeFleets()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleets: FakeFleets, pauses: Pauses) -> Run:
    """Run `castalia ARGUMENTS`; standard input is `input`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASTALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("URL", "API_KEY", "API_KEYS_FILE", "PORT", "HOST", "DATABASE_URL"):
        monkeypatch.delenv(f"CASTALIA_{name}", raising=False)
    runner = CliRunner()

    def run(*arguments: str, input: str | None = None) -> Result:
        tools = Tools(fleets=lambda: fleets, sleep=pauses)
        return runner.invoke(app, arguments, input=input, obj=tools, catch_exceptions=False)

    return run
