"""Owns what the loads over a fleet's capacity share: the fleet, its requests, and the report of what was promised."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from loadtests.bench_models import gpt2_14m
from loadtests.open_loop import Reply, ask
from loadtests.peers.fleet import BenchFleet
from loadtests.report import machine
from loadtests.tables import Row
from shared.config.settings import Settings

ROWS = 8
PROMPT_LETTERS = 32  # each is a token
TOKENS = (32, 96)
DEADLINE_S = 8.0
LONGEST_S = 600.0  # a request without a deadline of its own
PATIENCE_S = 30.0  # over the deadline: a request without an answer by then is lost
Send = Callable[[], Coroutine[Any, Any, Reply]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Goal:
    name: str
    got: float
    bound: float
    is_least: bool  # else the bound is the most that is allowed

    @property
    def met(self) -> bool:
        return self.got >= self.bound if self.is_least else self.got <= self.bound

    @property
    def limit(self) -> str:
        return f"{'at least' if self.is_least else 'at most'} {self.bound:.4g}"

    def row(self, form: str) -> Row:
        """Of a report's table; `form` is how to write what was got."""
        return self.name, format(self.got, form), self.limit, "yes" if self.met else "no"


def sender(url: str, *, seed: int, key: str | None = None, deadline_s: float | None = DEADLINE_S) -> Send:
    """Requests of unlike lengths, each drawn anew."""
    rng = random.Random(seed)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    if deadline_s is not None:
        headers["x-castalia-deadline-ms"] = str(int(deadline_s * 1e3))
    patience_s = PATIENCE_S + (LONGEST_S if deadline_s is None else deadline_s)

    async def send() -> Reply:
        body = {
            "model": BenchFleet.model,
            "prompt": "".join(rng.choices("abcdefgh", k=PROMPT_LETTERS)),
            "max_tokens": rng.randint(*TOKENS),
            "ignore_eos": True,
        }
        return await ask(f"{url}/v1/completions", body, headers=headers, patience_s=patience_s)

    return send


@contextmanager
def fleet_of(*, name: str, replicas: int = 1, **settings: object) -> Generator[BenchFleet]:
    """A running fleet of this many replicas. The work folder's path is short: Ray puts Unix sockets below it."""
    options = {"source": f"file://{gpt2_14m(Settings().home)}", "max_batch_size": ROWS, "cache_memory": "256MiB"}
    service = {"replicas": {"min": replicas, "max": replicas}, "resources": {"memory": "1GiB"}}
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir="/tmp", ignore_cleanup_errors=True) as work:
        fleet = BenchFleet("transformer", options, Path(work), name=name, service=service, settings=settings)
        try:
            fleet.start()
            yield fleet
        finally:
            fleet.stop()


def write(folder: Path, name: str, what: str, goals: Sequence[Goal], figures: Any, seconds: float) -> Path:
    """Write NAME.md and NAME.json; return the path of the first. `what` says what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine() | {"load average after the run": f"{os.getloadavg()[0]:.1f}"}
    (folder / f"{name}.json").write_text(json.dumps({"machine": facts, "figures": figures}, indent=1) + "\n")
    lines = [f"# {name.capitalize()}", "", what.strip(), "", f"The run took {seconds / 60:.0f} minutes.", ""]
    lines += [*(f"- {key}: {value}" for key, value in facts.items()), ""]
    lines += ["| figure | got | bound | met |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(goal.row('.3g'))} |" for goal in goals]
    path = folder / f"{name}.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def plain(figures: Any) -> dict[str, Any]:
    """A dataclass's fields as JSON takes them. `asdict` turns a Counter's keys into pairs."""
    return {each.name: getattr(figures, each.name) for each in fields(figures)}
