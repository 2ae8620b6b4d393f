"""A local fleet's files, environment and processes, without Ray."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from services.fleet import FleetError, FleetState, applied_config, down, list_states, read_state
from services.fleet import state as fleet_state
from services.fleet.environment import Ports, choose_ports, ray_environment, settings_environment
from services.fleet.processes import descendants, end_all
from services.fleet.signals import Signals, Stopped
from services.fleet.state import StateFile, birth_of, fleet_folder
from shared.config.models import FleetConfig
from shared.config.settings import Settings

UNIX_PATH = 97  # HAProxy's bound, the smallest
NODE_ID = "0" * 56


def state(name: str = "a", birth: str | None = None) -> FleetState:
    me = os.getpid()
    return FleetState(name, me, 0.0, "http://x", "m", "l", "/nowhere", birth=birth or birth_of(me))


def write(home: Path, what: FleetState) -> StateFile:
    folder = fleet_folder(what.name, home)
    folder.mkdir(parents=True)
    return StateFile(folder / "fleet.json", what)


def test_a_living_fleet_is_found_and_what_it_updates_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, state())
    assert read_state("a", tmp_path) == state()
    file.update(status="ready", url="http://y")
    assert list_states(tmp_path) == [replace(state(), status="ready", url="http://y")]
    file.remove()
    assert read_state("a", tmp_path) is None


def test_a_pid_that_another_process_took_over_is_not_the_fleet(tmp_path: Path) -> None:
    boot, _, ticks = birth_of(os.getpid()).partition("+")
    write(tmp_path, state(birth=f"{boot}+{int(ticks) - 1}"))
    assert read_state("a", tmp_path) is None
    assert list_states(tmp_path) == []
    assert down("a", tmp_path) is False


def test_what_a_fleet_of_an_earlier_version_left_behind_is_no_living_fleet(tmp_path: Path) -> None:
    write(tmp_path, state())
    path = fleet_folder("a", tmp_path) / "fleet.json"
    left = json.loads(path.read_text())
    del left["birth"]
    path.write_text(json.dumps(left))
    assert read_state("a", tmp_path) is None


def test_a_process_is_told_by_the_kernels_count_from_boot_which_no_clock_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    born, me = birth_of(os.getpid()), psutil.Process()
    boot, _, ticks = born.partition("+")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    since_boot_s = me.create_time() - psutil.boot_time()
    assert int(ticks) / os.sysconf("SC_CLK_TCK") == pytest.approx(since_boot_s, abs=0.02)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 1.0)  # as if somebody had set the clock
    assert birth_of(os.getpid()) == born


def test_without_the_kernels_count_the_time_of_the_start_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fleet_state, "PROC", tmp_path)
    assert birth_of(os.getpid()) == str(psutil.Process().create_time())


def test_a_process_whose_name_has_brackets_and_spaces_is_told_as_well(tmp_path: Path) -> None:
    program = tmp_path / ") 1 (x y"
    program.symlink_to(shutil.which("sleep") or "")
    started = subprocess.Popen([str(program), "60"])
    try:
        assert birth_of(started.pid) == birth_of(started.pid)
        assert birth_of(started.pid) != birth_of(os.getpid())
    finally:
        started.kill()
        started.wait()
    with pytest.raises(psutil.NoSuchProcess):
        birth_of(started.pid)


def test_what_was_applied_is_read_back_and_an_earlier_fleets_is_not(tmp_path: Path) -> None:
    file = write(tmp_path, state())
    with pytest.raises(FleetError, match="has no services yet"):
        applied_config("a", tmp_path)
    config = FleetConfig.model_validate(
        {"services": [{"name": "chat", "family": "transformer", "models": [{"id": "x", "source": "file:///x"}]}]}
    )
    file.applied(config)
    assert applied_config("a", tmp_path) == config
    StateFile(fleet_folder("a", tmp_path) / "fleet.json", state())
    with pytest.raises(FleetError, match="has no services yet"):
        applied_config("a", tmp_path)


def test_a_fleet_that_never_was_is_not_there(tmp_path: Path) -> None:
    assert read_state("a", tmp_path) is None
    assert list_states(tmp_path) == []
    assert down("a", tmp_path) is False


@pytest.mark.parametrize("name", ["", "../up", "Big", "a b", "x" * 33])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FleetError, match="is no name for a fleet"):
        read_state(name, tmp_path)


def test_a_taken_port_is_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FleetError, match=f"port {port} on 127.0.0.1 is in use"):
            choose_ports(Settings(port=port))


def test_port_zero_becomes_a_real_port_and_blocks_are_not_all_the_same() -> None:
    chosen = [choose_ports(Settings(port=0)) for _ in range(8)]
    assert all(ports.gateway > 0 for ports in chosen)
    assert len({ports.block for ports in chosen}) > 1


def test_no_socket_path_is_too_long_for_haproxy(tmp_path: Path) -> None:
    folder = tmp_path / "castalia-12345678"
    folder.mkdir()
    environment = ray_environment(Settings(), Ports(8000, 20000), folder)
    for key in ("RAY_SERVE_HAPROXY_SOCKET_PATH", "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"):
        path = Path(environment[key])
        below = path.parent.relative_to(folder) / NODE_ID / path.name
        assert len(str(Path("/tmp/castalia-12345678") / below)) <= UNIX_PATH


def test_each_fleet_has_its_own_token_that_only_its_user_reads(tmp_path: Path) -> None:
    tokens = set[str]()
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        environment = ray_environment(Settings(), Ports(8000, 20000), folder)
        token = Path(environment["RAY_AUTH_TOKEN_PATH"])
        assert token.stat().st_mode & 0o077 == 0
        assert environment["RAY_AUTH_MODE"] == "token"
        tokens.add(token.read_text())
    assert len(tokens) == 2


@pytest.mark.parametrize("on", [True, False])
def test_each_of_ray_serves_modes_has_a_switch(tmp_path: Path, on: bool) -> None:
    settings = Settings(haproxy=on, throughput_optimized=on, grpc=on)
    environment = ray_environment(settings, Ports(8000, 20000), tmp_path)
    keys = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_USE_GRPC_BY_DEFAULT")
    assert {environment[key] for key in keys} == {"1" if on else "0"}


def test_settings_survive_the_way_into_a_child_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = Settings(home=tmp_path, port=0, timeout_s=12.5, haproxy=False, max_body=2**20, database_url="sqlite://")
    for key, value in settings_environment(given).items():
        monkeypatch.setenv(key, value)
    assert Settings() == given


def test_processes_that_ignore_a_polite_signal_are_killed_and_others_are_left() -> None:
    ignore = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    )
    stubborn = subprocess.Popen([sys.executable, "-c", ignore], stdout=subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        mine = {process.pid for process in descendants(psutil.Process())}
        assert {stubborn.pid, other.pid} <= mine
        assert end_all([psutil.Process(stubborn.pid)], leave_s=0, terminate_s=0.2) == 1
        assert not psutil.pid_exists(stubborn.pid)
        assert other.poll() is None
    finally:
        for process in (stubborn, other):
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def test_signals_end_a_wait_at_once_and_a_reload_is_told_once() -> None:
    signals = Signals()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        signals.install()
        os.kill(os.getpid(), signal.SIGHUP)
        signals.wait(60)
        assert signals.take_reload()
        assert not signals.take_reload()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            signals.wait(60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
