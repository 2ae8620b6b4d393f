"""Owns Buildah and Podman in tests: a base image, the build by `make image`, hardened containers and a network for two.

No daemon and no registry: debootstrap makes the base, so that Debian's archive, PyPI and root are all that is needed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/castalia-test-base:bookworm"
IMAGE = "localhost/castalia-test"
MIRROR = "http://deb.debian.org/debian"
NEEDED = ("debootstrap", "buildah", "podman", "runc", "make", "ip", "tar")
BUILD_S = 3600.0
CERTIFICATES = Path("/etc/ssl/certs")  # this machine's, for mirrors with certificates of their own
PODMAN = ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs")
# As the chart's pods are: Pod Security's `restricted`, a read-only root, and what is writable in memory.
HARDENED = (
    *("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "10001:10001"),
    *("--tmpfs", "/tmp:rw,nosuid,nodev,mode=1777,size=2g", "--shm-size", "512m"),
    *("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=10000:10000"),
)


def checked(*command: str | Path, timeout: float = 120, **options: Any) -> str:
    """What the command printed. AssertionError, with what it said, where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-8000:]}"
    return done.stdout


def require_tools() -> None:
    if os.geteuid() != 0:
        pytest.fail("building and running the image here needs root")
    if missing := [program for program in NEEDED if shutil.which(program) is None]:
        pytest.fail(f"missing: {', '.join(missing)}; tests/images/install installs them")


def ensure_base(folder: Path) -> None:
    """Debian with Python and no more, where it is not there yet."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode == 0:
        return
    include = "--include=python3,python3-venv,ca-certificates"
    mirror = os.environ.get("CASTALIA_TEST_MIRROR", MIRROR)
    checked("debootstrap", "--variant=minbase", include, "bookworm", folder, mirror, timeout=BUILD_S)
    archive = folder.with_suffix(".tar")
    checked("tar", "-C", folder, "--numeric-owner", "-cf", archive, ".", timeout=BUILD_S)
    checked("podman", "import", archive, BASE, timeout=BUILD_S)
    shutil.rmtree(folder)
    archive.unlink()


def build(tag: str, *more: str) -> str:
    """`make image`, and the image's name. Where pip finds wheels in a folder (PIP_FIND_LINKS), torch comes from it."""
    arguments = ["--isolation=chroot", "--network=host", "--layers", f"--build-arg=BASE={BASE}", *more]
    arguments.append(f"--volume={CERTIFICATES}:{CERTIFICATES}:ro")
    command = ["nice", "make", "image", "ENGINE=buildah", f"IMAGE={IMAGE}", f"TAG={tag}"]
    wheels = Path(os.environ.get("PIP_FIND_LINKS") or "/nowhere")
    if wheels.is_dir() and any(wheels.glob("torch-*.whl")):
        arguments += [f"--volume={wheels}:/mnt/wheels:ro", "--build-arg=PIP_FIND_LINKS=/mnt/wheels"]
        command.append("TORCH_INDEX=https://pypi.org/simple")
    checked(*command, f"IMAGE_ARGS={' '.join(arguments)}", timeout=BUILD_S, cwd=ROOT)
    return f"{IMAGE}:{tag}"


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    restarts: bool = False  # when it fails, as a pod's do

    def run(self, *command: str, timeout: float = 120) -> str:
        """In the container, as its user."""
        return checked(*PODMAN, "exec", self.name, *command, timeout=timeout)

    def succeeds(self, *command: str) -> bool:
        done = subprocess.run([*PODMAN, "exec", self.name, *command], check=False, capture_output=True, timeout=120)
        return done.returncode == 0

    def python(self, code: str, *arguments: str, timeout: float = 120) -> str:
        return self.run("python", "-c", code, *arguments, timeout=timeout)

    @property
    def is_running(self) -> bool:
        return checked(*PODMAN, "inspect", "--format", "{{.State.Running}}", self.name).strip() == "true"

    @property
    def logs(self) -> str:
        done = subprocess.run([*PODMAN, "logs", self.name], check=False, capture_output=True, text=True, timeout=120)
        return (done.stdout + done.stderr)[-8000:]

    def stop(self, within_s: int) -> int:
        """As Kubernetes stops one: SIGTERM, and SIGKILL if that takes too long. Returns its exit status."""
        checked(*PODMAN, "stop", "--time", str(within_s), self.name, timeout=within_s + 60)
        return int(checked(*PODMAN, "inspect", "--format", "{{.State.ExitCode}}", self.name))

    def wait_until(self, what: str, done: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            assert self.restarts or self.is_running, f"the container ended: {self.logs}"
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}\n{self.logs}"
            time.sleep(3)


@contextmanager
def started(
    image: str,
    *command: str,
    network: str = "none",
    environment: Mapping[str, str] | None = None,
    volumes: Sequence[str] = (),
    restarts: bool = False,
) -> Iterator[Container]:
    """A hardened container until the end of the block; what it logged goes where a failed test shows it."""
    name = f"castalia-test-{secrets.token_hex(4)}"
    options = [f"--env={key}={value}" for key, value in (environment or {}).items()]
    options += [f"--volume={volume}" for volume in volumes]
    options += ["--restart=on-failure:5"] if restarts else []
    checked(*PODMAN, "run", "--detach", "--name", name, "--network", network, *HARDENED, *options, image, *command)
    container = Container(name, restarts)
    try:
        yield container
    except BaseException:
        print(container.logs, file=sys.stderr)  # noqa: T201 - pytest shows it beside the failure
        raise
    finally:
        checked(*PODMAN, "rm", "--force", "--volumes", "--time", "5", name)


def ran(image: str, *command: str, network: str = "none", volumes: Sequence[str] = (), timeout: float = 300) -> str:
    """What the command printed in a hardened container of its own."""
    options = [f"--volume={volume}" for volume in volumes]
    arguments = [*PODMAN, "run", "--rm", "--network", network, *HARDENED, *options, image, *command]
    return checked(*arguments, timeout=timeout)


@contextmanager
def cable(*addresses: str) -> Iterator[tuple[str, str]]:
    """Two network namespaces with loopback and a cable to each other, and nothing else; their names for Podman."""
    mark = secrets.token_hex(3)
    names = (f"castalia-{mark}a", f"castalia-{mark}b")
    try:
        for name in names:
            checked("ip", "netns", "add", name)
            checked("ip", "-n", name, "link", "set", "lo", "up")
        checked(*f"ip -n {names[0]} link add eth0 type veth peer name eth0 netns {names[1]}".split())
        for name, address in zip(names, addresses, strict=True):
            checked("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            checked("ip", "-n", name, "link", "set", "eth0", "up")
            checked("ip", "-n", name, "route", "add", "default", "dev", "eth0")  # by it Ray finds its own address
        yield (f"ns:/run/netns/{names[0]}", f"ns:/run/netns/{names[1]}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=60)
