"""The load test as it is run before a release, against a real fleet: headless Locust in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.conftest import LocalFleet

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


def locust(fleet: LocalFleet, *, seconds: int, model: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Locust's exit code and its rows by name. Users finish what they have begun."""
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--host", fleet.url, "--headless"]
    command += ["--users", "4", "--spawn-rate", "4", "--run-time", f"{seconds}s", "--stop-timeout", "60"]
    command += ["--model", model, "--max-tokens", "24", "--seed", "1", "--json", "--skip-log"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.stdout, done.stderr
    return done.returncode, {row["name"]: row for row in json.loads(done.stdout)}


def test_people_who_chat_meet_no_failure_and_their_waits_are_measured(local_fleet: LocalFleet) -> None:
    code, rows = locust(local_fleet, seconds=8, model="llama")
    asked, waits = rows["/v1/chat/completions"], rows["time to first token"]
    assert asked["num_requests"] > 4
    assert {name: row["num_failures"] for name, row in rows.items()} == dict.fromkeys(rows, 0)
    assert code == 0
    assert 0 < waits["num_requests"] <= asked["num_requests"]
    assert waits["max_response_time"] <= asked["max_response_time"]
    assert rows["tokens per second"]["min_response_time"] > 0


def test_refused_people_are_counted_as_failures(local_fleet: LocalFleet) -> None:
    code, rows = locust(local_fleet, seconds=2, model="no-such-model")
    asked = rows["/v1/chat/completions"]
    assert code == 1
    assert asked["num_failures"] == asked["num_requests"] > 0
    assert "time to first token" not in rows
