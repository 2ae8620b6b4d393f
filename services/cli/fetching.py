"""Owns fetching weights with a progress bar, and reading models.yaml with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from services.cli.context import CliError, explain
from services.sources import SourceError, fetch, read_manifest, resolve
from shared.config.models import FleetConfig


def load_models(path: Path) -> FleetConfig:
    """Read a models.yaml. Raises CliError that names the file and the field."""
    import yaml
    from pydantic import ValidationError

    from services.app import load_fleet_config

    try:
        return load_fleet_config(path)
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}; name another with --models") from error
    except yaml.YAMLError as error:
        raise CliError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise CliError(explain(error, str(path))) from error


def fetch_all(sources: Sequence[str], home: Path, console: Console) -> None:
    """Have every source in the cache. Raises CliError with the cause."""
    for source in sources:
        try:
            with FetchBar(console) as bar:
                fetch(source, home, progress=bar)
        except SourceError as error:
            raise CliError(str(error)) from error


def pull_verified(source: str, home: Path, console: Console) -> tuple[Path, str]:
    """Have a source in the cache and check every byte of it; return its folder and revision. Raises CliError."""
    try:
        with FetchBar(console) as bar:
            folder = resolve(source, home, progress=bar)
        return folder, read_manifest(folder).revision
    except SourceError as error:
        raise CliError(str(error)) from error


class FetchBar(AbstractContextManager["FetchBar"]):
    """Draws what `services.sources` reports: a bar of bytes, or a spinner where no total is known.

    Through a pipe, each stage is one line.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage = ""

    def __enter__(self) -> FetchBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            self._begin(stage)
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def _begin(self, stage: str) -> None:
        self._stage = stage
        if self._progress.disable:
            self._console.print(stage, markup=False, highlight=False)
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(stage, total=None)
