"""Owns one load as Locust runs it, in processes of its own: from what is asked for to a summary."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from loadtests.objectives import Objectives
from loadtests.summary import Summary
from loadtests.traffic.arrivals import Kind
from loadtests.traffic.lengths import Mix
from services.cli.context import DEFAULT_URL

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
POLL_S = 0.5
SLACK_S = 120.0  # for what is in flight when a load ends, and for Locust itself
SHAPE_USERS = 20  # parts in which a shape's rate can change
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LoadFailed(Exception):
    """Locust did not run to its end; the message holds what it said."""


class Load(BaseModel):
    """`per_second` requests a second in an open loop, or `clients` who ask again once they are answered.

    The rest is as the options of the same names (`locust -f loadtests/locustfile.py --help`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_second: Positive | None = None
    clients: Annotated[int | None, Field(ge=1)] = None
    seconds: Positive = 60.0
    modalities: str = ""
    model: str = ""
    lengths: Mix = "short"
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    ignore_eos: bool = False
    arrivals: Kind = "poisson"
    burst_size: Positive | None = None
    shape: Literal["ramp", "step", "spike", "soak"] | None = None
    deadline: Positive | None = None
    seed: int = 0
    processes: Annotated[int, Field(ge=1, description="of the load generator")] = 1

    @model_validator(mode="after")
    def _one_rate(self) -> Load:
        if (self.per_second is None) == (self.clients is None):
            raise ValueError("give per_second (open loop) or clients (closed loop), and not both")
        if self.clients is not None and (self.shape or self.arrivals != "poisson"):
            raise ValueError("shape and arrivals are of an open loop: give per_second")
        return self

    @property
    def options(self) -> Iterator[str]:
        users = self.clients or (SHAPE_USERS if self.shape else 1)
        given: dict[str, object] = {
            "users": users,
            "spawn-rate": users,
            "run-time": f"{max(1, round(self.seconds))}s",
            "modalities": self.modalities,
            "model": self.model,
            "lengths": self.lengths,
            "max-tokens": self.max_tokens,
            "arrivals": "closed" if self.clients else self.arrivals,
            "per-user": None if self.per_second is None else self.per_second / users,
            "burst-size": self.burst_size,
            "shape": self.shape,
            "deadline": self.deadline,
            "seed": self.seed,
            "processes": self.processes if self.processes > 1 else None,
        }
        for name, value in given.items():
            if value is not None and value != "":
                yield f"--{name}={value}"
        if self.ignore_eos:
            yield "--ignore-eos"


def add_url(parser: argparse.ArgumentParser) -> None:
    url = os.environ.get("CASTALIA_URL", DEFAULT_URL)
    parser.add_argument("--url", default=url, help=f"of the gateway [CASTALIA_URL, else {url}]")


def run(
    load: Load,
    *,
    url: str,
    objectives: Objectives,
    keep: Path | None = None,
    tick: Callable[[float], None] = lambda _: None,
) -> Summary:
    """The load, to its end. `tick` is told the seconds since it began; `keep` is a folder for Locust's own reports.

    Raises LoadFailed. The API key is Locust's to read from CASTALIA_API_KEY.
    """
    with tempfile.TemporaryDirectory(prefix="castalia-load-") as work:
        bounds, summary, said = (Path(work) / name for name in ("objectives.yaml", "summary.json", "log"))
        bounds.write_text(yaml.safe_dump(objectives.model_dump(exclude_none=True)))
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url, "--headless", *load.options]
        command += ["--only-summary", "--exit-code-on-error=0", f"--objectives={bounds}", f"--summary={summary}"]
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            command += [f"--html={keep / 'locust.html'}", f"--csv={keep / 'locust'}"]
        with said.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            try:
                _wait(process, load.seconds, tick)
            finally:
                process.kill()
                process.wait()
        if process.returncode != 0 or not summary.exists():
            raise LoadFailed(f"Locust ended with status {process.returncode}:\n{said.read_text()[-2000:].strip()}")
        return Summary.read(summary)


def _wait(process: subprocess.Popen[bytes], seconds: float, tick: Callable[[float], None]) -> None:
    began = time.monotonic()
    while process.poll() is None:
        passed = time.monotonic() - began
        if passed > seconds + SLACK_S:
            raise LoadFailed(f"Locust did not end within {SLACK_S:g} s of the load's {seconds:g} s")
        tick(passed)
        time.sleep(POLL_S)
