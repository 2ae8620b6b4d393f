"""Owns a fleet's life as seen from outside: start it in a process of its own, change it, stop it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from services.app import load_fleet_config
from services.fleet.environment import CODE, settings_environment
from services.fleet.processes import descendants, end_all
from services.fleet.signals import Signals, Stopped
from services.fleet.state import APPLY_S, FleetError, FleetState, fleet_folder, last_state, read_state
from shared.config.settings import Settings

POLL_S = 0.1
CHANGE_S = APPLY_S + 120.0  # longer than the fleet itself tries, so that it says what fails
STOP_S = 60.0
LOG_LINES = 30

OnProgress = Callable[[str], None]
OnReady = Callable[[FleetState], None]
Sleep = Callable[[float], None]


def up(config_path: Path, *, name: str, settings: Settings, on_progress: OnProgress) -> FleetState:
    """Start a fleet in the background and return when it is ready.

    Raises FleetError with the end of its log if it does not get there, and what `load_fleet_config` raises.
    """
    process = _spawn(config_path, name, settings)
    # Reaps the fleet, should it end while this process goes on.
    threading.Thread(target=process.wait, name=f"fleet {name}", daemon=True).start()
    try:
        return _wait_ready(process, name, settings.home, on_progress, time.sleep)
    except BaseException:
        if process.poll() is None:
            _end(psutil.Process(process.pid))
        raise


def serve(
    config_path: Path, *, name: str, settings: Settings, on_progress: OnProgress, on_ready: OnReady | None = None
) -> None:
    """Run a fleet until SIGINT or SIGTERM, then stop it. Raises as `up`, and FleetError if it ends by itself.

    The fleet is a child in a session of its own, so that a terminal's Ctrl-C does not hit Ray's processes as well.
    """
    signals = Signals()
    signals.install()
    process = _spawn(config_path, name, settings)
    try:
        state = _wait_ready(process, name, settings.home, on_progress, signals.wait)
        if on_ready is not None:
            on_ready(state)
        while process.poll() is None:
            signals.wait(POLL_S)
            if signals.take_reload():
                process.send_signal(signal.SIGHUP)
        raise _failure(name, settings.home)
    except Stopped:
        on_progress("stopping")
    finally:
        if process.poll() is None:
            _end(psutil.Process(process.pid))


def reload(name: str, home: Path) -> FleetState:
    """Have a running fleet apply its models.yaml as it is now, without a restart. FleetError if it does not."""
    before = read_state(name, home)
    process = before.process if before is not None else None
    if before is None or process is None:
        raise FleetError(f"no fleet '{name}' is running")
    process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + CHANGE_S
    while (state := read_state(name, home)) is not None and time.monotonic() < deadline:
        if state.reloads != before.reloads:
            if state.error:
                raise FleetError(f"not applied: {state.error}")
            return state
        time.sleep(POLL_S)
    raise _failure(name, home)


def down(name: str, home: Path) -> bool:
    """Stop a fleet: its own processes and no others. False if none of this name was running."""
    state = last_state(name, home)
    process = state.process if state is not None else None
    if state is None or process is None:
        return False
    _end(process)
    shutil.rmtree(state.folder, ignore_errors=True)  # left only by a fleet that could not clean up
    (fleet_folder(name, home) / "fleet.json").unlink(missing_ok=True)
    return True


def _spawn(config_path: Path, name: str, settings: Settings) -> subprocess.Popen[bytes]:
    load_fleet_config(config_path)  # a mistake shows here, not in a log
    if (running := read_state(name, settings.home)) is not None:
        raise FleetError(f"fleet '{name}' is running already at {running.url}")
    folder = fleet_folder(name, settings.home)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "services.fleet", "--models", str(config_path.resolve()), "--name", name]
    environment = os.environ | settings_environment(settings)
    with (folder / "fleet.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own module, by the running interpreter
            command,
            cwd=CODE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_ready(
    process: subprocess.Popen[bytes], name: str, home: Path, on_progress: OnProgress, sleep: Sleep
) -> FleetState:
    told = ""
    deadline = time.monotonic() + CHANGE_S
    while process.poll() is None and time.monotonic() < deadline:
        state = last_state(name, home)
        if state is not None and state.message != told:
            told = state.message
            on_progress(told)
        if state is not None and state.status == "ready":
            return state
        sleep(POLL_S)
    raise _failure(name, home)


def _failure(name: str, home: Path) -> FleetError:
    state = last_state(name, home)
    log = fleet_folder(name, home) / "fleet.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]) if log.exists() else ""
    if state is not None and state.process is not None:
        return FleetError(
            f"fleet '{name}' is not done after {CHANGE_S:g} s: {state.message}\nThe end of {log}:\n{tail}"
        )
    cause = state.error if state is not None and state.error else "it ended without a word"
    return FleetError(f"fleet '{name}' failed: {cause}\nThe end of {log}:\n{tail}")


def _end(process: psutil.Process) -> None:
    started = descendants(process)
    try:
        process.terminate()
        process.wait(STOP_S)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        process.kill()
    end_all([process, *started])
