"""Owns what a soak sees of a fleet: memory, descriptors and threads by role, and what its `/metrics` say is going on.

Memory is what the kernel calls anonymous (RSS less what is shared or mapped from files): weights that are mapped from
files, libraries and shared memory lie in the page cache, come and go with it, and are not counted.
"""

from __future__ import annotations

import re
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from loadtests.peers.server import descendants

PROC = Path("/proc")
METRICS_S = 30.0  # patience with a fleet that is busy
REPLICA = re.compile(r"ServeReplica:([\w-]+)")
PROGRAMS = {"haproxy": "HAProxy", "raylet": "raylet", "gcs_server": "GCS"}
TITLES = {  # what a command line holds, in the order of looking
    "ServeController": "Serve controller",
    "ProxyActor": "Serve proxy",
    "HAProxyManager": "Serve proxy",
    "services.fleet": "fleet's own process",
    "DashboardAgent": "Ray agents",
    "RuntimeEnvAgent": "Ray agents",
    "ray/dashboard": "Ray dashboard",
}
REST = "rest of Ray"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a role hold together. `memory`: bytes of anonymous memory."""

    memory: int = 0
    files: int = 0  # descriptors but sockets: files, pipes, events
    sockets: int = 0
    threads: int = 0

    @property
    def descriptors(self) -> int:
        return self.files + self.sockets

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Usage)))


@dataclass(frozen=True, slots=True)
class Work:
    """What is going on, over all replicas and gateways."""

    running_rows: float  # places of batches that are taken
    waiting_rows: float
    waiting_cost: float  # units that wait at a replica, or on their way into its queue
    requests: float  # answers and streams that are open


@dataclass(frozen=True, slots=True)
class Sample:
    """`second` counts from the beginning of the load."""

    second: float
    roles: Mapping[str, Usage]
    work: Work

    @property
    def fleet(self) -> Usage:
        return sum(self.roles.values(), Usage())


def take(pid: int, url: str, second: float) -> Sample:
    """Of the fleet whose first process and gateway these are. Raises OSError if the gateway does not answer."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=METRICS_S) as response:
        work = work_of(response.read().decode())
    return Sample(second, by_role(descendants(pid)), work)


def by_role(processes: Iterable[psutil.Process]) -> dict[str, Usage]:
    roles: dict[str, Usage] = defaultdict(Usage)
    for process in processes:
        try:
            role, usage = role_of(process.cmdline()), usage_of(process)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
        roles[role] += usage
    return dict(roles)


def role_of(command: Sequence[str]) -> str:
    """From a command line. A raylet's holds those of all that it starts, so that programs are looked at first."""
    program = Path(command[0].split()[0]).name if command and command[0] else ""
    if program in PROGRAMS:
        return PROGRAMS[program]
    title = " ".join(command)
    if replica := REPLICA.search(title):
        return "gateway" if replica[1] == "gateway" else f"replica of {replica[1]}"
    return next((role for sign, role in TITLES.items() if sign in title), REST)


def usage_of(process: psutil.Process) -> Usage:
    """Raises psutil.NoSuchProcess, OSError."""
    with process.oneshot():
        memory = process.memory_info()
        threads = process.num_threads()
    open_ones = [_target(each) for each in (PROC / str(process.pid) / "fd").iterdir()]
    sockets = sum(each.startswith("socket:") for each in open_ones)
    return Usage(memory.rss - memory.shared, len(open_ones) - sockets, sockets, threads)


def work_of(metrics: str) -> Work:
    """From Prometheus' text. The request for it is open too, and is not counted."""
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return Work(
        running_rows=sums["castalia_running_rows"],
        waiting_rows=sums["castalia_waiting_rows"],
        waiting_cost=sums["castalia_tenant_waiting_cost"],
        requests=sums["castalia_requests_in_flight"] - 1,
    )


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""  # closed since
