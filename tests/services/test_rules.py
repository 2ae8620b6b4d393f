"""Prometheus itself takes the rules, and each alert rings for what it is for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "deploy" / "observability" / "rules"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.fail(
            "promtool is not installed; Debian and Ubuntu have it in the package `prometheus`: tests/services/install"
        )
    return subprocess.run([program, *arguments], cwd=RULES, capture_output=True, text=True, timeout=120, check=False)


def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "recording.yaml", "alerts.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_rings_for_what_it_is_for() -> None:
    done = promtool("test", "rules", "tests.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_rings_for_the_contrary_is_found_out(tmp_path: Path) -> None:
    """So that success means something."""
    for path in RULES.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("absent(", "sum("))
    done = promtool("test", "rules", str(tmp_path / "tests.yaml"))
    assert done.returncode != 0
    assert "CastaliaDown" in done.stdout + done.stderr
