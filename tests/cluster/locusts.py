"""Owns people who chat, by Locust, in a process of its own, for as long as a test takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from tests.cluster.fleet import ROOT, ClusterFleet

USERS = 3
END_S = 90.0


class Chatting:
    """Begins with `with`. Afterwards `rows` are Locust's, by name, and `told` is what it said, its errors last."""

    def __init__(self, fleet: ClusterFleet, model: str) -> None:
        self._command = [sys.executable, "-m", "locust", "--locustfile", str(ROOT / "loadtests" / "locustfile.py")]
        self._command += ["ChatUser", "--arrivals", "closed"]
        self._command += ["--host", fleet.url, "--headless", "--users", str(USERS), "--spawn-rate", str(USERS)]
        self._command += ["--stop-timeout", "60", "--model", model, "--max-tokens", "24", "--seed", "1", "--json"]
        self._environment = os.environ | {"CASTALIA_API_KEY": fleet.key}
        self.rows: dict[str, dict[str, Any]] = {}
        self.told = ""

    def __enter__(self) -> Chatting:
        self._process = subprocess.Popen(
            self._command, env=self._environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        output, self.told = self._process.communicate(timeout=END_S)
        assert output.strip(), self.told[-2000:]
        self.rows = {row["name"]: row for row in json.loads(output)}

    @property
    def chats(self) -> dict[str, Any]:
        return self.rows["/v1/chat/completions"]

    @property
    def failures(self) -> int:
        return sum(row["num_failures"] for row in self.rows.values())
