"""Locust as a person runs it: processes of its own against a server of the test's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.summary import Summary

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-m", "locust", "--locustfile", str(ROOT / "loadtests" / "locustfile.py"))
PATIENCE_S = 60


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Run:
    """How a test ended: Locust's exit code, its rows by type and name, the summary if there is one, what was logged."""

    code: int
    rows: dict[tuple[str, str], dict[str, Any]]
    summary: Summary | None
    told: str
    workers: tuple[int, ...] = ()  # their exit codes

    def row(self, name: str, kind: str = "POST") -> dict[str, Any]:
        return self.rows[kind, name]

    @property
    def totals(self) -> dict[str, int]:
        """Those that are not 0."""
        assert self.summary is not None, self.told
        return {name: count for name, count in self.summary.totals.model_dump().items() if count}


class Locust:
    """One process that leads a test, alone or with workers. `end` waits for it."""

    def __init__(self, folder: Path, url: str, *arguments: str, workers: int = 0) -> None:
        self._summary = folder / "summary.json"
        lead = [*COMMAND, "--host", url, "--json", "--summary", str(self._summary), *arguments]
        self._workers: list[subprocess.Popen[str]] = []
        if workers:
            port = str(free_port())
            lead += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
            lead += ["--expect-workers", str(workers), "--expect-workers-max-wait", str(PATIENCE_S)]
            self._workers = [
                _begun([*COMMAND, "--worker", "--master-host", "127.0.0.1", "--master-port", port])
                for _ in range(workers)
            ]
        self._lead = _begun(lead)

    def stop(self) -> None:
        self._lead.send_signal(signal.SIGTERM)

    def end(self) -> Run:
        try:
            output, told = self._lead.communicate(timeout=PATIENCE_S)
            for worker in self._workers:
                if self._lead.returncode:
                    worker.kill()  # one that has not found its master yet looks for minutes
                told += worker.communicate(timeout=PATIENCE_S)[1]
        finally:
            for process in (self._lead, *self._workers):
                process.kill()
                process.wait()
        rows = {(row["method"], row["name"]): row for row in json.loads(output)} if output.strip() else {}
        summary = Summary.read(self._summary) if self._summary.exists() else None
        codes = tuple(worker.returncode for worker in self._workers)
        return Run(self._lead.returncode, rows, summary, told, codes)


def _begun(command: list[str]) -> subprocess.Popen[str]:
    """The key in a person's own environment is no business of a test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CASTALIA_", "LOCUST_"))}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def locust(folder: Path, url: str, *arguments: str, workers: int = 0) -> Run:
    """Headless, from its beginning to its end."""
    return Locust(folder, url, "--headless", "--spawn-rate", "100", *arguments, workers=workers).end()


def wait_until(what: str, is_so: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < until, f"not in {within_s:g} s: {what}"
        time.sleep(0.02)
