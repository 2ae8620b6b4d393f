"""Owns pods without Kubernetes: processes with a network, a process table and a root of their own, on one bridge.

A pod sees this machine's files, as an image would hold them; what it writes is its own and goes with it, but for its
/tmp: there Ray's logs are, for whoever asks why a test failed.
"""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BRIDGE = "pods"
GATEWAY = "10.77.0.1"  # this process, as pods reach it: the bridge itself
START_S = 20.0
# Waits until its network is attached. /dev/shm is a file system of the size that the pod asks for.
ENTER = """
set -eu
read -r _
mount --make-rprivate /
mount -t tmpfs pod "$POD_FOLDER"
mkdir "$POD_FOLDER/upper" "$POD_FOLDER/work" "$POD_FOLDER/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$POD_FOLDER/upper,workdir=$POD_FOLDER/work" "$POD_FOLDER/root"
cd "$POD_FOLDER/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o "size=$POD_SHM" shm dev/shm
mount --bind "$POD_TMP" tmp
mkdir -p models
mount --bind "$POD_MODELS" models
chroot . sh <"$POD_FOLDER.files"
exec chroot . /usr/bin/env -i bash "$POD_SCRIPT"
"""


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What runs in a pod. `sidecars` share everything with the first command but its environment."""

    name: str
    labels: Mapping[str, str]
    command: str
    environment: Mapping[str, str]
    sidecars: Sequence[tuple[str, Mapping[str, str]]] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # by their absolute path in the pod
    shm: str = "512m"
    pre_stop: Sequence[str] = ()
    grace_s: float = 30.0
    readiness: Mapping[str, Any] | None = None


class Network:
    """The bridge that all pods are on. One a network namespace."""

    def __init__(self) -> None:
        self._numbers = itertools.count(2)
        self._lock = threading.Lock()
        _ip("link", "set", "lo", "up")
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{GATEWAY}/16", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")

    def address(self) -> str:
        with self._lock:
            number = next(self._numbers)
        return f"10.77.{number // 250}.{number % 250 + 2}"

    def attach(self, pid: int, address: str) -> str:
        """Give the process's network namespace an address; returns the name of the bridge's end of its cable."""
        with self._lock:
            cable = f"cable{next(self._numbers)}"
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", cable, "master", BRIDGE, "up")
        inside = ("nsenter", "--target", str(pid), "--net", "ip")
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{address}/16", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", GATEWAY),
        ):
            subprocess.run([*inside, *words], check=True, timeout=START_S)
        return cable


class Pod:
    """One running pod. It lives until it is killed or stopped, or its command ends."""

    def __init__(self, spec: PodSpec, network: Network, *, address: str, models: Path, logs: Path) -> None:
        self.spec = spec
        self.address = address
        self.deleted = False  # it has been asked to go
        self.started = time.monotonic()
        self.log = logs / f"{spec.name}.log"
        tmp = logs / spec.name
        tmp.mkdir()
        tmp.chmod(0o1777)
        self._folder = Path(tempfile.mkdtemp(prefix="pod-", dir="/tmp"))
        script = self._write_files()
        environment = os.environ | {
            "POD_FOLDER": str(self._folder),
            "POD_SHM": spec.shm,
            "POD_TMP": str(tmp),
            "POD_MODELS": str(models),
            "POD_SCRIPT": script,
        }
        namespaces = ("--net", "--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, "bash", "-c", ENTER],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._first_child()
        self._cable = network.attach(self.pid, address)
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.close()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """At once and without a word, as a machine that loses power. Safe to call twice, and of one that has ended."""
        self._process.kill()
        self._process.wait()
        # Connections to whom nobody reaches keep its network alive: it would answer for the next pod at its address.
        subprocess.run(["ip", "link", "del", self._cable], check=False, capture_output=True, timeout=START_S)

    def stop(self) -> None:
        """As the kubelet does: preStop, SIGTERM, the grace period, SIGKILL."""
        self.deleted = True
        ends = time.monotonic() + self.spec.grace_s
        if self.spec.pre_stop:
            self.run(*self.spec.pre_stop)
        try:
            os.kill(self.pid, signal.SIGTERM)
            self._process.wait(max(0.0, ends - time.monotonic()))
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def run(self, *command: str, timeout_s: float = 600) -> str:
        """A command's output, from inside."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--ipc", "--root"]
        done = subprocess.run([*inside, *command], capture_output=True, text=True, timeout=timeout_s, check=False)
        return done.stdout + done.stderr

    def processes(self, title: str) -> list[int]:
        """The process ids, inside, of those whose command line holds the title."""
        listed = self.run("ps", "-eo", "pid=,args=").splitlines()
        return [int(line.split(None, 1)[0]) for line in listed if title in line and "ps -eo" not in line]

    def cut(self) -> None:
        """Take its cable out: nobody reaches it, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        _ip("link", "set", self._cable, "up")

    def _write_files(self) -> str:
        """Leaves beside the pod's folder the script that fills its root; returns the path, inside, of what it runs."""
        lines = [f"(\n{_exported(env)}\n{command}\n) &" for command, env in self.spec.sidecars]
        lines += [_exported(self.spec.environment), f"exec bash -c -- {shlex.quote(self.spec.command)}"]
        main = "\n".join(lines)
        files = {**self.spec.files, "/run/pod.sh": main}
        moves: list[str] = []
        for path, text in files.items():
            target = shlex.quote(path.removeprefix("/"))
            moves.append(f"mkdir -p $(dirname {target}) && printf %s {shlex.quote(text)} >{target}")
        Path(f"{self._folder}.files").write_text("\n".join(moves) + "\n")
        return "/run/pod.sh"

    def _first_child(self) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + START_S
        while not (found := children.read_text().split()):
            assert time.monotonic() < deadline, f"{self.spec.name} did not start: {self.log.read_text()}"
            time.sleep(0.01)
        return int(found[0])


def _exported(environment: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=START_S)
