"""Owns what is known on disk of a local fleet: its state file, its log, and whether its process lives."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import psutil

from shared.config.models import FleetConfig

Status = Literal["starting", "ready", "stopping", "failed"]
NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,31}$")
PROC = Path("/proc")
START_TIME = 22 - 3  # its place among the fields that follow the process's name
APPLIED = "applied.json"
APPLY_S = 1800.0  # how long a fleet tries: a first start, and a reload, may fetch and convert weights


class FleetError(Exception):
    """The fleet could not be started, stopped or changed. The message is for whoever runs it, and may hold paths."""


@dataclass(frozen=True, slots=True)
class FleetState:
    """One local fleet. `pid` and `birth` together name its process; `created` is for people."""

    name: str
    pid: int
    created: float  # seconds since the epoch, by the clock of the time
    url: str
    models: str  # path of its models.yaml
    log: str  # path
    folder: str  # Ray's temporary folder
    status: Status = "starting"
    message: str = ""  # the last step of progress
    error: str = ""  # what ended the fleet, or why the last change was not applied
    reloads: int = 0  # changes of models.yaml that were tried
    birth: str = ""  # what `birth_of` says of the process

    @property
    def process(self) -> psutil.Process | None:
        """The fleet's process, if it lives: a pid may have been given to another since."""
        try:
            process = psutil.Process(self.pid)
            alive = birth_of(self.pid) == self.birth and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def birth_of(pid: int) -> str:
    """What tells a process from any other that had or will have its pid. Raises psutil.NoSuchProcess.

    On Linux the boot, and the clock ticks from it to the process's start (proc_pid_stat(5), field 22), which do not
    move when the clock is set; elsewhere the time of its start.
    """
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return str(psutil.Process(pid).create_time())
    _, _, fields = stat.rpartition(b")")  # field 2, the name, may hold spaces and brackets; field 3 follows
    return f"{boot}+{int(fields.split()[START_TIME])}"


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


def applied_config(name: str, home: Path) -> FleetConfig:
    """What the fleet's services and models are: models.yaml as it was last applied. FleetError if it never was."""
    try:
        return FleetConfig.model_validate_json((fleet_folder(name, home) / APPLIED).read_bytes())
    except FileNotFoundError:
        raise FleetError(f"fleet '{name}' has no services yet: wait until it is ready") from None


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
        self._applied = path.with_name(APPLIED)
        self._applied.unlink(missing_ok=True)  # an earlier fleet's
        self.state = state
        self.update()

    def update(self, **changes: Unpack[Changes]) -> None:
        self.state = replace(self.state, **changes)
        _write(self._path, json.dumps(asdict(self.state)))

    def applied(self, config: FleetConfig) -> None:
        """Note the configuration that the fleet has taken over."""
        _write(self._applied, config.model_dump_json(exclude_unset=True))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._applied.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    half = path.with_suffix(f".{os.getpid()}")
    half.write_text(text)
    half.replace(path)
