"""Stand in for `services.fleet` and for time: remember what they were asked, start nothing, and take no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.app import load_fleet_config
from services.fleet import FleetError, FleetState
from shared.config.models import FleetConfig
from shared.config.settings import Settings


def state(name: str, url: str) -> FleetState:
    return FleetState(
        name, pid=1, created=0.0, url=url, models="models.yaml", log="fleet.log", folder="", status="ready"
    )


@dataclass
class FakeFleets:
    running: dict[str, FleetState] = field(default_factory=dict)
    started: list[tuple[Path, str, Settings]] = field(default_factory=list)
    reloaded: list[str] = field(default_factory=list)
    applied: FleetConfig | None = None
    failure: str | None = None

    def up(self, config_path: Path, *, name: str, settings: Settings, on_progress: Callable[[str], None]) -> FleetState:
        self.started.append((config_path, name, settings))
        on_progress("starting Ray")
        if self.failure:
            raise FleetError(self.failure)
        self.running[name] = state(name, f"http://{settings.host}:{settings.port}")
        return self.running[name]

    def serve(
        self,
        config_path: Path,
        *,
        name: str,
        settings: Settings,
        on_progress: Callable[[str], None],
        on_ready: Callable[[FleetState], None] | None = None,
    ) -> None:
        found = self.up(config_path, name=name, settings=settings, on_progress=on_progress)
        if on_ready is not None:
            on_ready(found)
        del self.running[name]

    def reload(self, name: str, home: Path) -> FleetState:
        if self.failure:
            raise FleetError(self.failure)
        self.reloaded.append(name)
        self.applied = load_fleet_config(Path(self.running[name].models))
        return self.running[name]

    def applied_config(self, name: str, home: Path) -> FleetConfig:
        assert self.applied is not None
        return self.applied

    def down(self, name: str, home: Path) -> bool:
        return self.running.pop(name, None) is not None

    def list_states(self, home: Path) -> list[FleetState]:
        return list(self.running.values())


@dataclass
class Pauses:
    """Each pause takes no time, and the next of `happens`, if any is left, comes to pass in it."""

    happens: list[Callable[[], None]] = field(default_factory=list)
    count: int = 0

    def __call__(self, seconds: float) -> None:
        self.count += 1
        if self.happens:
            self.happens.pop(0)()
