"""Stands in for `services.fleet`: remembers what it was asked, and starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.fleet import FleetError, FleetState
from shared.config.settings import Settings


def state(name: str, url: str) -> FleetState:
    return FleetState(
        name, pid=1, created=0.0, url=url, models="models.yaml", log="fleet.log", folder="", status="ready"
    )


@dataclass
class FakeFleets:
    running: dict[str, FleetState] = field(default_factory=dict)
    started: list[tuple[Path, str, Settings]] = field(default_factory=list)
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

    def down(self, name: str, home: Path) -> bool:
        return self.running.pop(name, None) is not None

    def list_states(self, home: Path) -> list[FleetState]:
        return list(self.running.values())
