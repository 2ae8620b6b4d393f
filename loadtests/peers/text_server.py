"""Owns what the peers that are one process tree share: a port, a log, start, stop and CPU time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.peers.server import ServerProcess, cpu_by_role, descendants, free_port
from loadtests.peers.venvs import ROOT, peer_venv

READY_S = 400  # vLLM takes some 90 s the first time, and more on a busy machine
# No peer asks anything of the network: models are folders, and none reports its use.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "VLLM_NO_USAGE_STATS": "1",
}


class TextServer:
    """A server at a free port of 127.0.0.1. What it runs and what it is asked are its subclass's."""

    name: str
    most_clients = 64

    def __init__(self, work: Path) -> None:
        self._port = free_port()
        self._log = work / f"{type(self).__name__.lower()}.log"
        self._url = f"http://127.0.0.1:{self._port}"
        self._process: ServerProcess | None = None

    def _run(
        self, command: Sequence[str], ready_path: str = "/", *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Say what `start` starts; a GET of `ready_path` answers 200 when it is up."""
        self._process = ServerProcess(
            command,
            self._url + ready_path,
            self._log,
            ready_s=READY_S,
            environment={**OFFLINE, **(environment or {})},
        )

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def cpu_seconds(self) -> Mapping[str, float]:
        return cpu_by_role(descendants(self._server.pid), lambda _: "server")

    @property
    def _server(self) -> ServerProcess:
        assert self._process is not None, "a subclass says in its __init__ what it runs"
        return self._process


class VenvServer(TextServer):
    """One that runs in a virtual environment of its own, which `python -m loadtests.peers.setup` makes."""

    venv: str

    def _run_in_venv(
        self,
        command: str,
        *arguments: str | Path | int,
        ready_path: str = "/",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """As `_run`, for a command of the environment. Raises PeerMissing."""
        binary = peer_venv(self.venv).binary(command)
        # Ours would lead to packages of another version; `loadtests` alone is to be found.
        own = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(binary).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        self._run([binary, *map(str, arguments)], ready_path, environment={**own, **(environment or {})})


def own_binary(name: str) -> str:
    """The path of a command of the environment that runs this."""
    return str(Path(sys.executable).with_name(name))
