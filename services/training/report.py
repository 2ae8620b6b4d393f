"""Owns report.json: how a model was made, and what it measured. What its card is rendered from."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from services.training.errors import NotTrained
from services.training.recipe import Evaluation, Figure, Package

REPORT = "report.json"
_VERSIONS = ("accelerate", "numpy", "pillow", "safetensors", "torch")


class Report(BaseModel):
    """The whole of report.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    family: str
    seed: int
    steps: int
    batch_size: int
    shards: int
    wall_seconds: float
    data_version: int
    packages: tuple[Package, ...]
    commit: str | None  # of the code that published; "-dirty" with changes that were not committed
    versions: dict[str, str]
    machine: str
    weights_bytes: int
    figures: tuple[Figure, ...]
    sheets: tuple[str, ...]  # file stems, in the card's order
    notes: tuple[str, ...]

    def measured(self, evaluation: Evaluation) -> Report:
        """The same model with the figures of another evaluation."""
        return self.model_copy(
            update={
                "figures": tuple(evaluation.figures),
                "sheets": tuple(evaluation.sheets),
                "notes": tuple(evaluation.notes),
            }
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of the report beside the same one measured again; None where one of the two lacks it."""

    name: str
    reported: float | None
    measured: float | None
    tolerance: float

    @property
    def within(self) -> bool:
        if self.reported is None or self.measured is None:
            return False
        return abs(self.measured - self.reported) <= self.tolerance


def compare(report: Report, evaluation: Evaluation) -> list[Comparison]:
    """Every figure that the report or the evaluation has; the report's tolerances count."""
    again = {figure.name: figure for figure in evaluation.figures}
    rows = [
        Comparison(one.name, one.value, again[one.name].value if one.name in again else None, one.tolerance)
        for one in report.figures
    ]
    known = {figure.name for figure in report.figures}
    rows += [Comparison(new.name, None, new.value, new.tolerance) for name, new in again.items() if name not in known]
    return rows


def read_report(folder: Path) -> Report:
    """Raises NotTrained where there is none that can be read."""
    try:
        return Report.model_validate_json((folder / REPORT).read_bytes())
    except (OSError, ValidationError) as error:
        raise NotTrained(f"{folder / REPORT} cannot be read: {error}") from error


def write_report(folder: Path, report: Report) -> None:
    (folder / REPORT).write_text(report.model_dump_json(indent=1) + "\n")


def versions() -> dict[str, str]:
    """What a figure may depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS}


def commit() -> str | None:
    """The commit of this code, if it is in a git work tree and git is there."""
    git, here = shutil.which("git"), Path(__file__).parent
    if git is None:
        return None
    head, changes = (
        subprocess.run([git, *words], cwd=here, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    )
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")
