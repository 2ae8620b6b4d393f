from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.fleets import FakeFleets, state
from tests.unit.cli.wire_server import MODELS, WireServer


@pytest.fixture
def complete(run: Run, monkeypatch: pytest.MonkeyPatch):
    """What bash offers for the last word of a line."""

    def complete(line: str) -> list[str]:
        monkeypatch.setenv("_CASTALIA_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        result = run()
        assert result.stderr == ""
        return result.stdout.split()

    return complete


def test_the_script_of_bash_calls_back(tmp_path: Path) -> None:
    castalia = Path(sys.executable).with_name("castalia")
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = subprocess.run([castalia, "--show-completion", "bash"], env=environment, capture_output=True, check=True)
    words = f'COMP_WORDS=(castalia to)\nCOMP_CWORD=1\n_castalia_completion {castalia}\necho "${{COMPREPLY[@]}}"'
    lines = f"{script.stdout.decode()}\n{words}"
    offered = subprocess.run(["bash", "--norc", "-c", lines], capture_output=True, check=True, cwd=tmp_path)
    assert offered.stdout.decode().split() == ["top"]


def test_commands_and_verbs_are_completed(complete) -> None:
    assert complete("castalia gen") == ["generate"]
    assert complete("castalia generate m") == ["music", "molecule"]
    assert "--scaffold" in complete("castalia generate molecule --sc")


def test_models_of_the_commands_task_are_completed_from_the_fleet_that_runs(
    complete, server: WireServer, fleets: FakeFleets
) -> None:
    fleets.running["only"] = state("only", server.url)
    server.models.append({**MODELS[1], "id": "tall"})
    for command in ("chat", "generate text", "generate"):
        assert complete(f"castalia {command} --model t") == ["tiny", "tall"]
    assert complete("castalia chat --model ti") == ["tiny"]
    assert complete("castalia generate image --model ") == ["painter"]
    assert complete("castalia generate music --model ") == []


def test_models_are_asked_for_where_the_line_says_with_its_key(complete, server: WireServer) -> None:
    assert complete(f"castalia generate speech --url {server.url} --api-key sk-1 -m ") == ["speaker"]
    assert server.headers_seen[-1]["Authorization"] == "Bearer sk-1"


def test_without_a_fleet_nothing_is_offered_and_nothing_is_said(complete, fleets: FakeFleets) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        fleets.running["only"] = state("only", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert complete("castalia chat --model ") == []
    fleets.running["second"] = state("second", "http://127.0.0.1:1")
    assert complete("castalia chat --model ") == []


def test_a_gateway_that_refuses_offers_nothing(complete, server: WireServer, fleets: FakeFleets) -> None:
    fleets.running["only"] = state("only", server.url)
    server.refusal = (401, {"error": {"message": "no", "type": "x", "param": None, "code": "invalid_api_key"}})
    assert complete("castalia chat --model ") == []
