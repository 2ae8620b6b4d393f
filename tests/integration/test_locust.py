"""The load test as it is run before a release, against a real fleet: headless Locust in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests.summary import Summary
from tests.integration.conftest import LocalFleet

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
CHATS = "/v1/chat/completions"
MODEL = "sleeper"
# Of each kind of built-in model one, and one that chats.
ONE_OF_EACH = (
    "llama,digits-rbm,digits-ebm,digits-flow,records-vae,molecules-lstm,dances-gru,forecast-lstm,sokoban-pixelcnn,"
    "spoken-words,sounds"
)
ANSWERED_BY_THEM = {
    *("chat", "completion", "embedding", "image", "edit", "variation", "interpolation", "reconstruction", "score"),
    *("record", "molecule", "music", "level", "forecast", "speech", "sound"),
}


@dataclass(frozen=True, slots=True)
class Run:
    code: int
    rows: dict[str, dict[str, Any]]
    summary: Summary | None
    told: str


def locust(fleet: LocalFleet, folder: Path, *arguments: str, users: int = 4, seconds: int) -> Run:
    """Locust's exit code and its rows by name. What is in flight at the end is waited for."""
    summary = folder / "summary.json"
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--host", fleet.url, "--headless"]
    command += ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s", "--stop-timeout", "60"]
    command += ["--max-tokens", "24", "--seed", "1", "--json", "--summary", str(summary), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 420, check=False)
    rows = {row["name"]: row for row in json.loads(done.stdout)} if done.stdout else {}
    return Run(done.returncode, rows, Summary.read(summary) if summary.exists() else None, done.stderr)


@pytest.fixture(scope="module", autouse=True)
def awake(local_fleet: LocalFleet) -> None:
    with local_fleet.http() as client:
        client.post("/v1/completions", json={"model": MODEL, "prompt": "a", "max_tokens": 1}).raise_for_status()


@pytest.mark.parametrize("arrivals", ["poisson", "closed"])
def test_people_who_chat_meet_no_failure_and_their_waits_are_measured(
    local_fleet: LocalFleet, tmp_path: Path, arrivals: str
) -> None:
    run = locust(local_fleet, tmp_path, "--model", MODEL, "--arrivals", arrivals, "ChatUser", seconds=8)
    asked, waits = run.rows[CHATS], run.rows["time to first token"]
    assert asked["num_requests"] > 4
    assert {name: row["num_failures"] for name, row in run.rows.items()} == dict.fromkeys(run.rows, 0)
    assert run.code == 0
    assert 0 < waits["num_requests"] <= asked["num_requests"]
    assert waits["max_response_time"] <= asked["max_response_time"]
    assert run.rows["tokens per second"]["min_response_time"] > 0
    assert run.summary is not None
    (chats,) = run.summary.of("chat")
    assert chats.sent == chats.answered == asked["num_requests"]
    assert chats.metrics["time_to_first_s"].max == pytest.approx(waits["max_response_time"] / 1e3, abs=1e-3)


def test_requests_that_can_never_be_answered_are_failures(local_fleet: LocalFleet, tmp_path: Path) -> None:
    trace = f"seconds,modality,model,output_tokens\n0,chat,{MODEL},1000000\n0,chat,{MODEL},8\n"
    (tmp_path / "trace.csv").write_text(trace)
    run = locust(local_fleet, tmp_path, "--trace", str(tmp_path / "trace.csv"), seconds=8)
    assert run.code == 1
    assert (run.rows[CHATS]["num_requests"], run.rows[CHATS]["num_failures"]) == (2, 1)
    assert run.summary is not None
    assert (run.summary.totals.failed, run.summary.totals.answered) == (1, 1)


def test_a_model_that_is_not_there_is_told_before_the_test(local_fleet: LocalFleet, tmp_path: Path) -> None:
    done = locust(local_fleet, tmp_path, "--model", "no-such-model", "ChatUser", seconds=8)
    assert done.code == 1
    assert "no model of --model no-such-model does chat; these do: " in done.told
    assert not done.rows


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_modality_is_answered(local_fleet: LocalFleet, tmp_path: Path) -> None:
    """Refusals are allowed: most of these models are asleep as it begins."""
    run = locust(local_fleet, tmp_path, "--model", ONE_OF_EACH, "--arrivals", "closed", users=6, seconds=90)
    assert run.summary is not None, run.told
    answered = {group.modality for group in run.summary.groups if group.answered}
    assert answered == ANSWERED_BY_THEM, run.told
    assert (run.summary.totals.failed, run.summary.totals.truncated) == (0, 0), run.told
