"""Runs Castalia itself: a local fleet with one model, as `castalia up` starts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import yaml
from pydantic import SecretStr

from loadtests.client import Answer
from loadtests.peers.answers import streamed_completion
from loadtests.peers.server import cpu_by_role, descendants, free_port
from loadtests.workload import Job
from services.fleet import FleetState, down, up
from shared.config.settings import Settings

NAME = "bench"
ROWS = 64  # of a step: rows join and leave at every one, so nobody waits for the longest, as in a whole batch
CACHE = "1GiB"
ROLES = {  # what a command line holds, in the order of looking
    "haproxy": "HAProxy",
    "ServeReplica:gateway": "gateway",
    "ServeReplica:model": "replica",
}


def local_settings(**more: object) -> Settings:
    """Of a fleet that is measured: on a free port of 127.0.0.1, quiet, and without a file of keys."""
    local = {"host": "127.0.0.1", "port": free_port(), "log_level": "WARNING", "api_keys_file": None}
    return Settings().model_copy(update={**local, **more})


def settings_with_store(work: str, **more: object) -> Settings:
    """The same with a store of its own in `work`, and no Redis."""
    store = SecretStr(f"sqlite:///{work}/castalia.db")
    return local_settings(redis_url=None, database_url=store, **more)


class BenchFleet:
    """A local fleet with one service of one model; `options` are the model's in models.yaml.

    `service` and `settings` change the service's entry and the fleet's settings; `beside` are more services. Fleets of
    unlike names run together.
    """

    model = NAME

    def __init__(
        self,
        family: str,
        options: Mapping[str, object],
        work: Path,
        *,
        name: str = NAME,
        service: Mapping[str, object] | None = None,
        beside: Sequence[Mapping[str, object]] = (),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._name = name
        self._models = work / "models.yaml"
        entry = {
            "name": "model",
            "family": family,
            "resources": {"memory": "4GiB"},
            "models": [{"id": NAME, **options}],
            **(service or {}),
        }
        self._models.write_text(yaml.safe_dump({"services": [entry, *map(dict, beside)]}))
        self._settings = local_settings(**(settings or {}))
        self._state: FleetState | None = None

    @property
    def url(self) -> str:
        assert self._state is not None, "not started"
        return self._state.url

    @property
    def ray_logs(self) -> Path:
        assert self._state is not None, "not started"
        return Path(self._state.folder) / "ray" / "session_latest" / "logs"

    def start(self) -> None:
        self._state = up(self._models, name=self._name, settings=self._settings, on_progress=lambda _: None)

    def stop(self) -> None:
        down(self._name, self._settings.home)

    def processes(self) -> list[psutil.Process]:
        return [] if self._state is None else descendants(self._state.pid)

    def cpu_seconds(self) -> Mapping[str, float]:
        return cpu_by_role(self.processes(), _role)


class Fleet(BenchFleet):
    """The fleet for one language model."""

    name = "Castalia"
    most_clients = 64

    def __init__(self, folder: Path, work: Path) -> None:
        options = {
            "source": f"file://{folder}",
            "max_batch_size": ROWS,
            "cache_memory": CACHE,
            "prefix_cache": False,  # the jobs' prompts overlap, and no peer has one
        }
        super().__init__("transformer", options, work)

    def thread_seconds(self) -> Mapping[int, float]:
        """CPU seconds so far of each thread of the model's replica. Under load the busiest is the engine's."""
        for process in self.processes():
            if _role(" ".join(process.cmdline())) == "replica":
                return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
        return {}

    async def send(self, job: Job) -> Answer:
        return await streamed_completion(self.url, NAME, job)


def _role(command: str) -> str:
    return next((role for sign, role in ROLES.items() if sign in command), "rest of Ray")
