"""Owns a server's processes: start, wait until it answers, count its CPU time, and end exactly what was started."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from loadtests.client import Answer
from loadtests.workload import Job

STOP_S = 30


class Peer(Protocol):
    """One way to serve a model over HTTP. `name` is its row in the report."""

    most_clients: int  # that it is asked by at a time

    @property
    def name(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def cpu_seconds(self) -> Mapping[str, float]:
        """CPU time so far by role, in seconds, of every process that serves."""
        ...

    async def send(self, job: Job) -> Answer: ...


class NotReady(Exception):
    """The server ended, or did not answer in time; the message ends with its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class ServerProcess:
    """A child process and whatever it starts. Its output goes to `log`; `environment` is added to ours."""

    command: Sequence[str]
    ready_url: str
    log: Path
    ready_s: float = 180
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # One torch thread each: all that is compared runs on the same.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **self.environment}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # a session of its own: Ctrl-C is ours to pass on
                self.command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        self._wait()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def stop(self) -> None:
        """Ask, then insist, process by process."""
        if self._process is None:
            return
        family = descendants(self._process.pid)
        self._process.terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_S)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=STOP_S)
        self._process.wait()
        self._process = None

    def _wait(self) -> None:
        assert self._process is not None
        limit = time.monotonic() + self.ready_s
        while time.monotonic() < limit:
            if self._process.poll() is not None:
                raise NotReady(f"{self.command[0]} ended with {self._process.returncode}:\n{self._tail()}")
            if answers(self.ready_url):
                return
            time.sleep(0.2)
        self.stop()
        raise NotReady(f"{self.ready_url} did not answer within {self.ready_s:g} s:\n{self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def descendants(pid: int) -> list[psutil.Process]:
    """The process and everything below it that still lives."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_by_role(processes: Sequence[psutil.Process], role: Callable[[str], str]) -> dict[str, float]:
    """User and system seconds summed by the role that `role` reads from a command line."""
    seconds: dict[str, float] = defaultdict(float)
    for process in processes:
        try:
            times = process.cpu_times()
            seconds[role(" ".join(process.cmdline()))] += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return seconds
