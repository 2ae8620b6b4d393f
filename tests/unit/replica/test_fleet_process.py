"""A fleet's process while it applies a changed models.yaml, without Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.fleet import FleetError, FleetState, launch, process
from services.fleet.process import FleetProcess
from services.fleet.state import StateFile, birth_of, fleet_folder
from shared.config.settings import Settings


class Head:
    """A cluster whose applications are in the state that `look` says, looked at for the n-th time."""

    def __init__(self, look: Callable[[int], str]) -> None:
        self.deployed: list[list[str]] = []
        self._look = look
        self._looks = 0

    def deploy(self, config: Mapping[str, Any]) -> None:
        self.deployed.append([app["name"] for app in config["applications"]])

    def statuses(self) -> dict[str, str]:
        self._looks += 1
        status = self._look(self._looks)
        return dict.fromkeys(self.deployed[-1], status)


def write_models(path: Path, *services: str) -> None:
    models = [{"id": "m", "source": "builtin://m"}]
    path.write_text(
        yaml.safe_dump({"services": [{"name": name, "family": "gan", "models": models} for name in services]})
    )


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "fleet.json", FleetState("a", os.getpid(), 0.0, "http://x", "m", "l", "/nowhere"))


@pytest.fixture
def fleet(tmp_path: Path, file: StateFile, monkeypatch: pytest.MonkeyPatch) -> FleetProcess:
    monkeypatch.setattr(process, "POLL_S", 0.0)
    monkeypatch.setattr(FleetProcess, "_wait_ready", lambda self: None)  # nothing answers HTTP here
    write_models(tmp_path / "models.yaml", "one")
    return FleetProcess(tmp_path / "models.yaml", Settings(home=tmp_path), file, tmp_path)


def test_a_reload_that_never_runs_ends_with_an_error_that_names_what_does_not(
    fleet: FleetProcess, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "APPLY_S", 0.0)
    fleet._reload(Head(lambda looks: "DEPLOYING"))  # type: ignore[arg-type]
    assert file.state.error == "not running after 0 s: gateway, one"
    assert file.state.reloads == 1


def test_a_reload_that_is_asked_for_while_another_is_applied_takes_its_place(
    fleet: FleetProcess, file: StateFile, tmp_path: Path
) -> None:
    def look(looks: int) -> str:
        if looks == 1:
            write_models(tmp_path / "models.yaml", "two")
            os.kill(os.getpid(), signal.SIGHUP)
        return "DEPLOYING" if len(head.deployed) == 1 else "RUNNING"

    head = Head(look)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        fleet._signals.install()
        fleet._reload(head)  # type: ignore[arg-type]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert head.deployed == [["one", "gateway"], ["two", "gateway"]]
    assert (file.state.error, file.state.reloads) == ("", 1)
    assert '"two"' in (tmp_path / "applied.json").read_text()


def test_a_reload_of_a_file_that_cannot_be_read_leaves_what_is_being_applied_alone(
    fleet: FleetProcess, file: StateFile, tmp_path: Path
) -> None:
    def look(looks: int) -> str:
        if looks == 1:
            (tmp_path / "models.yaml").write_text("services: oops")
            os.kill(os.getpid(), signal.SIGHUP)
        return "DEPLOYING" if looks < 3 else "RUNNING"

    head = Head(look)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        fleet._signals.install()
        fleet._reload(head)  # type: ignore[arg-type]
        applied = (tmp_path / "applied.json").read_text()
        noted = file.state.error
        write_models(tmp_path / "models.yaml", "two")
        fleet._reload(head)  # type: ignore[arg-type]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert head.deployed[0] == ["one", "gateway"]
    assert '"one"' in applied
    assert "services" in noted
    assert (file.state.error, file.state.reloads) == ("", 2)


def test_a_service_that_leaves_goes_once_the_others_have_taken_the_change_over(
    fleet: FleetProcess, file: StateFile, tmp_path: Path
) -> None:
    head = Head(lambda looks: "RUNNING")
    fleet._reload(head)  # type: ignore[arg-type]
    write_models(tmp_path / "models.yaml", "two")
    fleet._reload(head)  # type: ignore[arg-type]
    assert head.deployed == [["one", "gateway"], ["one", "two", "gateway"], ["two", "gateway"]]
    assert file.state.error == ""


def test_a_broken_service_that_leaves_holds_nothing_up(
    fleet: FleetProcess, file: StateFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Head(lambda looks: "RUNNING")
    fleet._reload(head)  # type: ignore[arg-type]
    write_models(tmp_path / "models.yaml", "two")
    statuses = head.statuses

    def broken() -> dict[str, str]:
        if head.deployed[-1] == ["one", "gateway"]:
            raise FleetError("application 'one' failed")
        return statuses()

    monkeypatch.setattr(head, "statuses", broken)
    fleet._reload(head)  # type: ignore[arg-type]
    assert head.deployed[1:] == [["two", "gateway"]]
    assert file.state.error == ""


def test_who_waited_too_long_for_a_reload_is_not_told_that_the_fleet_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    running = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        running.stdout.readline()
        folder = fleet_folder("a", tmp_path)
        folder.mkdir(parents=True)
        state = FleetState("a", running.pid, 0.0, "http://x", "m", "l", "/nowhere", birth=birth_of(running.pid))
        StateFile(folder / "fleet.json", state).update(message="one: deploying")
        monkeypatch.setattr(launch, "CHANGE_S", 0.0)
        with pytest.raises(FleetError, match="is not done after 0 s: one: deploying"):
            launch.reload("a", tmp_path)
    finally:
        running.kill()
        running.wait()
        if running.stdout:
            running.stdout.close()


def test_the_fleet_gives_up_before_whoever_waits_for_it() -> None:
    assert process.APPLY_S + process.READY_S < launch.CHANGE_S
