"""`castalia loadtest`, `capacity`, `plan`: whom they hand over to, and with what."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from services.cli import load_commands
from tests.unit.cli.conftest import Run


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    found: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], *, env: dict[str, str], check: bool) -> Any:
        found.append((command, env))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    return found


def test_options_and_exit_status_pass_through(run: Run, ran: list[Any]) -> None:
    result = run("loadtest", "--profile", "release", "--help")
    assert result.exit_code == 3
    ((command, _),) = ran
    assert command == [sys.executable, "-m", "loadtests.release.gate", "--profile", "release", "--help"]


def test_the_gateway_is_the_default_one_where_no_fleet_runs(run: Run, ran: list[Any]) -> None:
    run("capacity", "chat:tiny")
    ((command, environment),) = ran
    assert command[2:] == ["loadtests.release.capacity", "chat:tiny"]
    assert environment["CASTALIA_URL"] == "http://127.0.0.1:8000"


def test_without_locust_it_says_what_to_install(run: Run, ran: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_commands, "find_spec", lambda name: None if name == "locust" else object())
    result = run("plan", "fleet.yaml")
    assert result.exit_code == 1
    assert "castalia plan needs Locust: pip install 'castalia[loadtest]'" in result.output
    assert ran == []
