"""One real fleet for all of these tests: Ray, HAProxy, the gateway, tiny random models, and built-in ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml

from services import fleet
from services.app import load_fleet_config
from shared.config.settings import Settings
from tests.integration.sharing import Company, shared_folder, turn

Tell = Callable[[str], None]
TOLD = "told"
MODELS_YAML = Path(__file__).parents[2] / "models.yaml"
# Small enough to be served as they are; the other families have tiny checkpoints with random weights.
BUILTIN = [
    service
    for service in load_fleet_config(MODELS_YAML).hosted
    if service.family not in ("diffusion", "gan") and all(m.source.startswith("builtin://") for m in service.models)
]

CONTEXT = 8192  # long enough for streams that outlive what the tests do to them
# Which files may run beside all others, and beside each other where they differ in this: by the service that they ask.
BESIDE = {
    "test_audio": "autoregressive",
    "test_cold": "third",
    "test_edge": "gateway",
    "test_families": "families",
    "test_forecasts": "families",
    "test_locust": "third",
    "test_molecules": "recurrent",
    "test_music": "recurrent",
    "test_plugin": "ising",
    "test_shapes": "shapes",
    "test_stories": "shapes",
    "test_verse": "recurrent",
}
IN_TURN = "first and second"  # all other files: they count what these services do, end them, or change the fleet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ray)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of these tests those of one group go to one process. (`--dist loadgroup` does nothing under pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling  # the environment of make test-vllm has none

    here = Path(__file__).parent.relative_to(config.rootpath).as_posix()

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = PurePosixPath(nodeid.partition("::")[0])
            return BESIDE.get(file.stem, IN_TURN) if file.is_relative_to(here) else nodeid

    return Scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with turn(shared_folder(item.config), alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, text in report.user_properties:
            if name == TOLD:
                terminalreporter.line(f"  {text}")


@dataclass
class LocalFleet:
    """A running fleet, its files, and ways to reach it."""

    state: fleet.FleetState
    settings: Settings
    config_path: Path
    checkpoints: Path

    @property
    def url(self) -> str:
        return self.state.url

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
        )

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def processes(self, title: str = "") -> list[psutil.Process]:
        """The fleet's own living processes whose command line begins with `title`."""
        process = self.state.process
        assert process is not None
        found = [process, *process.children(recursive=True)]
        titles = [(each, title_of(each)) for each in found]
        return [each for each, its in titles if its is not None and its.startswith(title)]

    def replica(self, service: str) -> psutil.Process:
        (process,) = self.processes(f"ray::ServeReplica:{service}:Replica")
        return process

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        return self.metrics(name, **labels)[0]

    def metrics(self, *names: str, **labels: str) -> list[float]:
        """As `metric`, of several at one moment."""
        with self.http() as client:
            lines = client.get("/metrics").raise_for_status().text.splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = [line for line in lines if all(label in line for label in wanted)]
        return [
            sum(float(line.rpartition(" ")[2]) for line in samples if line.startswith(f"{name}{{")) for name in names
        ]


def title_of(process: psutil.Process) -> str | None:
    """Its command line; None if it has ended, even if its parent has not noticed yet."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None


def checkpoint(folder: Path, architecture: str, **changes: Any) -> str:
    """A verified tiny checkpoint; returns its source."""
    from tests.integration import served  # it imports torch, which takes seconds

    return served.checkpoint(folder, architecture, context=CONTEXT, **changes)


def start(folder: Path, config: dict[str, Any], *, name: str) -> LocalFleet:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    settings = settings_below(folder)
    state = fleet.up(path, name=name, settings=settings, on_progress=print)
    return LocalFleet(state, settings, path, folder)


def start_main(folder: Path) -> LocalFleet:
    from tests.integration import served

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(served.EXAMPLES))  # where a sampler of an operator's own is found
        return start(folder, served.models_yaml(folder, BUILTIN, context=CONTEXT), name="main")


def settings_below(folder: Path) -> Settings:
    return Settings(home=folder / "home", port=0, header_timeout_s=4, body_timeout_s=4, batch_lease_s=3)


def started(folder: Path, *, name: str) -> LocalFleet:
    """What another process started there."""
    settings = settings_below(folder)
    state = fleet.read_state(name, settings.home)
    assert state is not None, f"fleet {name} has ended"
    return LocalFleet(state, settings, folder / f"{name}.yaml", folder)


@pytest.fixture(scope="session")
def local_fleet(request: pytest.FixtureRequest) -> Iterator[LocalFleet]:
    """One for all processes that share these tests."""
    folder = shared_folder(request.config) / "fleet"
    folder.mkdir(exist_ok=True)
    company = Company(folder)
    with company.join() as is_first:
        running = start_main(folder) if is_first else started(folder, name="main")
    try:
        yield running
    finally:
        with company.leave() as is_last:
            if is_last:
                fleet.down("main", running.settings.home)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Shows a measured figure to whoever runs the tests, at their end."""
    return partial(record_property, TOLD)
