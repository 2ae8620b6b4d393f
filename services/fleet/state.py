"""Owns what is known on disk of a local fleet: its state file, its log, and whether its process lives."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import psutil

Status = Literal["starting", "ready", "stopping", "failed"]
NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,31}$")


class FleetError(Exception):
    """The fleet could not be started, stopped or changed. The message is for whoever runs it, and may hold paths."""


# The start of a process is told by the wall clock, so it moves when that is set.
CLOCK_STEP_S = 300.0


@dataclass(frozen=True, slots=True)
class FleetState:
    """One local fleet. `pid` and `created` (seconds since the epoch) together name its process."""

    name: str
    pid: int
    created: float
    url: str
    models: str  # path of its models.yaml
    log: str  # path
    folder: str  # Ray's temporary folder
    status: Status = "starting"
    message: str = ""  # the last step of progress
    error: str = ""  # what ended the fleet, or why the last change was not applied
    reloads: int = 0  # changes of models.yaml that were tried

    @property
    def process(self) -> psutil.Process | None:
        """The fleet's process, if it lives: a pid may have been given to another since."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CLOCK_STEP_S
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def fleet_folder(name: str, home: Path) -> Path:
    """Where the fleet keeps its files. FleetError if the name cannot be one."""
    if not NAME.match(name):
        raise FleetError(f"{name!r} is no name for a fleet: lower-case letters, digits, - and _, at most 32")
    return home / "fleets" / name


def read_state(name: str, home: Path) -> FleetState | None:
    """The fleet of this name, if its process lives."""
    state = last_state(name, home)
    return state if state is not None and state.process is not None else None


def list_states(home: Path) -> list[FleetState]:
    """Every fleet of this home whose process lives, by name."""
    names = sorted(path.parent.name for path in (home / "fleets").glob("*/fleet.json"))
    return [state for name in names if (state := read_state(name, home)) is not None]


def last_state(name: str, home: Path) -> FleetState | None:
    """What the fleet last wrote, whether or not it lives."""
    try:
        text = (fleet_folder(name, home) / "fleet.json").read_text()
    except FileNotFoundError:
        return None
    return FleetState(**json.loads(text))


class Changes(TypedDict, total=False):
    url: str
    status: Status
    message: str
    error: str
    reloads: int


class StateFile:
    """The running fleet's own hand on its state. Readers never see half a file."""

    def __init__(self, path: Path, state: FleetState) -> None:
        self._path = path
        self.state = state
        self.update()

    def update(self, **changes: Unpack[Changes]) -> None:
        self.state = replace(self.state, **changes)
        half = self._path.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(asdict(self.state)))
        half.replace(self._path)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
