"""Owns a real Prometheus on a free port of 127.0.0.1: its program, its configuration, and what it is asked by HTTP."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from loadtests.peers.server import ServerProcess, free_port

JOB = "castalia"  # as the rules ask for it
SCRAPE_S = 5.0
WINDOW_S = 4 * SCRAPE_S  # Grafana's $__rate_interval
STEP_S = 5.0  # between the points of a panel
READY_S = 60.0
ASK_S = 30.0


class PrometheusMissing(Exception):
    """There is no such program on this machine."""


class PrometheusFailed(Exception):
    """It answered a question with an error; the message is its own."""


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds since the epoch."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as Prometheus has it. `error`: why its last evaluation failed; empty if it did not."""

    name: str
    is_alert: bool
    error: str


def find_program() -> str:
    """Raises PrometheusMissing."""
    program = shutil.which("prometheus")
    if program is None:
        raise PrometheusMissing(
            "prometheus is not installed; Debian and Ubuntu have it in the package `prometheus`: "
            "sudo tests/services/install"
        )
    return program


def version_of(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=ASK_S, check=True)
    return (done.stdout or done.stderr).split("(")[0].removeprefix("prometheus, version").strip()


class Prometheus:
    """Scrapes one address and keeps the rules. Its files lie in `work`. `key` is what `/metrics` asks for."""

    def __init__(self, program: str, work: Path, *, target: str, key: str, rules: Sequence[Path]) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        key_file, config = work / "operator-key", work / "prometheus.yml"
        key_file.touch(mode=0o600)
        key_file.write_text(key)
        config.write_text(yaml.safe_dump(configuration(target, key_file, rules)))
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={work / 'prometheus'}"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        self._process = ServerProcess(command, f"{self._url}/-/ready", work / "prometheus.log", READY_S)

    def start(self) -> None:
        """Raises NotReady."""
        self._process.start()

    def stop(self) -> None:
        self._process.stop()

    def lines(self, expr: str, window: Window) -> int:
        """How many lines a panel would draw of it: a line has at least one number."""
        span = {"start": window.began, "end": window.ended, "step": STEP_S}
        return count_lines(self._get("query_range", {"query": expr, **span})["result"])

    def number(self, expr: str, at: float) -> float:
        """The value of an expression that has one; nan if it has none."""
        found = self._get("query", {"query": expr, "time": at})["result"]
        return float(found[0]["value"][1]) if found else math.nan

    def label_values(self, label: str, series: str, window: Window) -> list[str]:
        """What Grafana offers for a variable."""
        return self._get(f"label/{label}/values", {"match[]": series, "start": window.began, "end": window.ended})

    def grouped(self, label: str, expr: str, at: float) -> list[str]:
        """The values that a label has in the answer to an expression."""
        found = self._get("query", {"query": f"group by ({label}) ({expr})", "time": at})["result"]
        return sorted(each["metric"][label] for each in found if each["metric"].get(label))

    def rules(self) -> list[Rule]:
        groups = self._get("rules", {})["groups"]
        return [_rule(each) for group in groups for each in group["rules"]]

    def _get(self, what: str, parameters: Mapping[str, Any]) -> Any:
        """Raises PrometheusFailed."""
        with httpx.Client(trust_env=False, timeout=ASK_S) as client:
            body = client.get(f"{self._url}/api/v1/{what}", params=dict(parameters)).json()
        if body["status"] != "success":
            raise PrometheusFailed(f"{body['errorType']}: {body['error']}: {parameters}")
        return body["data"]


def configuration(target: str, key_file: Path, rules: Sequence[Path]) -> dict[str, Any]:
    """As deploy/observability/README.md has it, with more scrapes."""
    scrape = {
        "job_name": JOB,
        "authorization": {"credentials_file": str(key_file)},
        "static_configs": [{"targets": [target]}],
    }
    return {
        "global": {"scrape_interval": f"{SCRAPE_S:g}s", "evaluation_interval": f"{SCRAPE_S:g}s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [scrape],
    }


def count_lines(result: Sequence[Mapping[str, Any]]) -> int:
    """Of a matrix of Prometheus', the series that hold a number: a panel shows nothing of what is NaN or infinite."""
    return sum(any(math.isfinite(float(value)) for _, value in each["values"]) for each in result)


def _rule(written: Mapping[str, Any]) -> Rule:
    error = "" if written["health"] == "ok" else written.get("lastError") or written["health"]
    return Rule(written["name"], written["type"] == "alerting", error)
