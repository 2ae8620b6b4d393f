"""Owns the life of a fleet's process: start Ray, deploy, wait until ready, apply changes, stop on a signal.

SIGTERM and SIGINT stop the fleet; SIGHUP reads models.yaml again and applies it without a restart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import structlog
import yaml
from pydantic import ValidationError

from services.app import GATEWAY_APP, load_fleet_config, serve_config
from services.fleet.environment import choose_ports, ray_environment
from services.fleet.processes import descendants, end_all
from services.fleet.ray_head import RayHead
from services.fleet.signals import Signals, Stopped
from services.fleet.state import APPLY_S, FleetError, FleetState, StateFile, birth_of, fleet_folder
from shared.config.models import FleetConfig
from shared.config.settings import Settings

log = structlog.get_logger(__name__)

POLL_S = 0.1
WATCH_S = 1.0
READY_S = 60.0
UNREADABLE = (ValidationError, yaml.YAMLError, OSError, UnicodeError)  # what a models.yaml is that cannot be applied
REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - every address, and how to reach it from here
# Short: Ray and HAProxy put Unix sockets below it, whose paths are limited to 107 bytes.
TEMPORARY = Path("/tmp")  # noqa: S108 - mkdtemp makes a folder of our own, with mode 0700


class FleetProcess:
    """This process as a fleet. One a process: Ray is global to it."""

    def __init__(self, config_path: Path, settings: Settings, file: StateFile, folder: Path) -> None:
        self._config_path = config_path
        self._settings = settings
        self._file = file
        self._folder = folder
        self._signals = Signals()
        self._head: RayHead | None = None
        self._running: FleetConfig | None = None  # what was last applied
        self._unread = ""  # why a models.yaml that was to take the place of another could not

    def run(self) -> None:
        """Until a signal. Raises whatever keeps it from starting, and FleetError if Ray ends on its own."""
        self._signals.install()
        try:
            self._progress("starting Ray")
            self._choose_environment()
            head = self._head = RayHead(self._folder / "ray")
            self._signals.install()  # Ray put its own handler in place
            self._apply(head)
            self._progress(f"ready at {self._file.state.url}")
            self._file.update(status="ready")
            self._watch(head)
        except Stopped:
            self._file.update(status="stopping", message="stopping")

    def stop(self) -> None:
        """End everything that this process started, and remove its folder; Ray's logs stay beside the fleet's."""
        started = descendants(psutil.Process())
        if self._head is not None:
            self._head.stop()
        if killed := end_all([*started, *descendants(psutil.Process())]):
            self._progress(f"killed {killed} processes that did not end by themselves")
        kept = Path(self._file.state.log).with_name("ray-logs")
        logs = self._folder / "ray" / "session_latest" / "logs"
        if logs.exists():
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(logs, kept)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _choose_environment(self) -> None:
        ports = choose_ports(self._settings)
        self._settings = self._settings.model_copy(update={"port": ports.gateway})
        os.environ.update(ray_environment(self._settings, ports, self._folder))
        os.environ.pop("RAY_ADDRESS", None)
        host = REACHED_AT.get(self._settings.host, self._settings.host)
        self._file.update(url=f"http://[{host}]:{ports.gateway}" if ":" in host else f"http://{host}:{ports.gateway}")

    def _watch(self, head: RayHead) -> None:
        vital = psutil.Process().children()
        while True:
            self._signals.wait(WATCH_S)
            if dead := [child for child in vital if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE]:
                raise FleetError(f"Ray lost {len(dead)} of its own processes; see {self._file.state.log}")
            if self._signals.take_reload():
                self._reload(head)

    def _reload(self, head: RayHead) -> None:
        """Apply models.yaml as it is now. If it cannot be read, nothing changes; either way the fleet serves on."""
        error = self._unread = ""
        try:
            self._apply(head)
        except (FleetError, *UNREADABLE) as failure:
            error = str(failure)
            log.error("not_applied", error=error)
        self._file.update(error=error or self._unread, reloads=self._file.state.reloads + 1)

    def _apply(self, head: RayHead) -> None:
        """Until everything runs. A reload that is asked for meanwhile takes the place of what is being applied, if it
        can be read.

        Services that leave do so last: until the gateway leads nobody to them.
        """
        fleet: FleetConfig | None = load_fleet_config(self._config_path)
        while fleet is not None:
            leaving = self._leaving(head, fleet)
            newer = self._take_over(head, fleet, leaving) if leaving else None
            newer = newer or self._take_over(head, fleet, [])
            if newer is None:
                self._running = fleet
                self._file.applied(fleet)
            fleet = newer

    def _leaving(self, head: RayHead, fleet: FleetConfig) -> list[dict[str, Any]]:
        """The applications that run well and that the configuration no longer has, as they are."""
        if self._running is None:
            return []
        try:
            statuses = head.statuses()
        except FleetError:  # one is broken, and may be the one that leaves for that reason
            return []
        before: list[dict[str, Any]] = serve_config(self._running, self._settings)["applications"]
        gone = [each for each in before if each["name"] not in _names(fleet)]
        return [each for each in gone if statuses.get(each["name"]) == "RUNNING"]

    def _take_over(self, head: RayHead, fleet: FleetConfig, leaving: list[dict[str, Any]]) -> FleetConfig | None:
        """Deploy, and wait until everything runs; return at once with a newer configuration that is asked for."""
        config = serve_config(fleet, self._settings)
        self._progress("deploying")
        head.deploy({**config, "applications": [*leaving, *config["applications"]]})
        names = _names(fleet) | {application["name"] for application in leaving}
        deadline = time.monotonic() + APPLY_S
        seen: dict[str, str] = {}
        while set(seen) != names or set(seen.values()) != {"RUNNING"}:
            if time.monotonic() >= deadline:
                late = ", ".join(sorted(name for name in names if seen.get(name) != "RUNNING"))
                raise FleetError(f"not running after {APPLY_S:g} s: {late or 'what was removed still ends'}")
            self._signals.wait(POLL_S)
            if self._signals.take_reload() and (newer := self._newer()) is not None:
                return newer
            now = head.statuses()
            for name in sorted(now):
                if now[name] != seen.get(name):
                    self._progress(f"{name}: {now[name].lower()}")
            seen = now
        self._wait_ready()
        return None

    def _newer(self) -> FleetConfig | None:
        """models.yaml as it is now; None, and a note of why, if it cannot be read."""
        self._unread = ""
        try:
            return load_fleet_config(self._config_path)
        except UNREADABLE as failure:
            self._unread = str(failure)
            log.error("not_applied", error=self._unread)
            return None

    def _wait_ready(self) -> None:
        url = f"{self._file.state.url}/readyz"
        deadline = time.monotonic() + READY_S
        answer = "nothing"
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < deadline:
                try:
                    response = client.get(url)
                except httpx.HTTPError as error:
                    answer = repr(error)
                else:
                    if response.is_success and not response.json()["silent"]:
                        return
                    answer = f"{response.status_code} {response.text[:500]}"
                self._signals.wait(POLL_S)
        raise FleetError(f"{url} did not find every service within {READY_S:g} s, but said {answer}")

    def _progress(self, message: str) -> None:
        log.info("fleet", progress=message)
        self._file.update(message=message)


def _names(fleet: FleetConfig) -> set[str]:
    return {service.name for service in fleet.hosted} | {GATEWAY_APP}


def run(config_path: Path, *, name: str, settings: Settings) -> int:
    """Be the fleet of this name until a signal. Returns the exit status; the state file says what failed."""
    home = fleet_folder(name, settings.home)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.error("fleet_runs_already", name=name)
            return 1
        me = psutil.Process()
        folder = Path(tempfile.mkdtemp(prefix="castalia-", dir=TEMPORARY))
        state = FleetState(
            name,
            pid=me.pid,
            birth=birth_of(me.pid),
            created=me.create_time(),
            url="",
            models=str(config_path),
            log=str(home / "fleet.log"),
            folder=str(folder),
        )
        file = StateFile(home / "fleet.json", state)
        fleet = FleetProcess(config_path, settings, file, folder)
        try:
            fleet.run()
        except Exception as error:
            log.exception("fleet_failed")
            file.update(status="failed", error=str(error))
        finally:
            fleet.stop()
        if file.state.status == "failed":
            return 1
        file.remove()
        return 0
