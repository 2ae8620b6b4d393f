"""Owns the way from log lines to the phases of a cold start. Never sees a process: lines and times go in.

A phase lasts from one mark to the next. Marks are lines of two logs on one machine's clock: Ray Serve's controller's,
and a replica's, whose lines are JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

# By mark, the line's beginning or part that is it.
MARKS: Mapping[str, re.Pattern[str]] = {
    "decided": re.compile(r"^Upscaling .* from 0 to 1 replicas"),
    "starting": re.compile(r"^replica_starting$"),
    "verified": re.compile(r"^weights of model \S+ are verified$"),
    "evicted": re.compile(r"^model \S+ was evicted$"),
    "imported": re.compile(r"^(family \S+ is imported|family_imported)$"),
    "read": re.compile(r"^weights_read$"),
    "packed": re.compile(r"^linear_layers$"),
    "ready": re.compile(r"^(model \S+ is ready after .*|model_ready)$"),
    "noticed": re.compile(r" started successfully on node "),
}
PROCESS, FIRST_TOKEN = "process", "first token"  # marks that no log has
REPLICA_COLD: Mapping[str, str] = {
    "decided": "the request comes in; Ray Serve decides on a replica",
    PROCESS: "a process for it starts",
    "starting": "Ray Serve and the replica's code are imported",
    "verified": "weights are checked by SHA-256",
    "imported": "torch and transformers are imported",
    "read": "weights are read",
    "packed": "trials; linear layers are measured and packed",
    "ready": "tokenizer and tasks; where that is not told apart, weights too",
    "noticed": "Ray Serve notices that the replica runs",
    FIRST_TOKEN: "the request goes there; its prompt is read; the first token comes back",
}
MODEL_COLD: Mapping[str, str] = {
    "verified": "the request comes in; weights are checked by SHA-256",
    "evicted": "the other model is evicted",
    **{mark: REPLICA_COLD[mark] for mark in ("read", "packed")},
    "ready": "tokenizer and tasks",
    FIRST_TOKEN: "the prompt is read; the first token comes back",
}
_CONTROLLER = re.compile(r"^\w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) controller \d+ (?:\S+ )*?-- (.*)$")


class NotCold(Exception):
    """Nothing was loaded for a request: its time is not that of a cold start."""


def ray_lines(logs: Path) -> Iterator[str]:
    """What the controller and the workers of a Ray session have written, file after file."""
    for path in sorted([*logs.glob("serve/controller_*.log"), *logs.glob("worker-*.err")]):
        yield from path.read_text(errors="replace").splitlines()


def marks_of(lines: Iterable[str], *, began: float, ended: float) -> dict[str, float]:
    """By mark, when it first was in between; times are seconds since the epoch. Raises NotCold: no model got ready."""
    marks: dict[str, float] = {}
    for line in lines:
        at, text = _said(line)
        if not began <= at <= ended:
            continue
        for mark, pattern in MARKS.items():
            if pattern.search(text):
                marks[mark] = min(at, marks.get(mark, at))
    if "ready" not in marks:
        raise NotCold("no model was loaded while the request waited")
    return marks


def phases_of(order: Sequence[str], marks: Mapping[str, float], *, began: float) -> dict[str, float]:
    """The seconds up to each mark from the one before it.

    A mark that was there before its turn (a process that Ray had kept ready) takes no time; what has no mark is left
    out, and its time is the next one's. So the phases add up to the whole.
    """
    phases: dict[str, float] = {}
    reached = began
    for mark in order:
        if mark in marks:
            phases[mark] = max(0.0, marks[mark] - reached)
            reached = max(reached, marks[mark])
    return phases


def _said(line: str) -> tuple[float, str]:
    """When a line was written, in seconds since the epoch, and its text; 0 for a line of neither log."""
    if found := _CONTROLLER.match(line):
        return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp(), found[2]
    if line.startswith("{"):
        try:
            entry = json.loads(line)
            return datetime.fromisoformat(entry["timestamp"]).timestamp(), str(entry["event"])
        except (ValueError, KeyError):
            pass
    return 0.0, ""
