"""Owns the reading of the Containerfile in tests: its stages and their instructions, continuations joined."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "images" / "Containerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """`RUN`, `COPY` ... and what follows it on one line."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Stage:
    """From one FROM to the next. The last one is the image."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[str]:
        return [each.text for each in self.instructions if each.name == name]


@dataclass(frozen=True, slots=True)
class Recipe:
    arguments: dict[str, str]  # before the first stage
    stages: tuple[Stage, ...]

    @property
    def image(self) -> Stage:
        return self.stages[-1]

    @property
    def instructions(self) -> list[Instruction]:
        return [each for stage in self.stages for each in stage.instructions]


def read(path: Path = CONTAINERFILE) -> Recipe:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]
    starts = [index for index, each in enumerate(found) if each.name == "FROM"]
    arguments = dict(each.text.split("=", 1) for each in found[: starts[0]])
    stages: list[Stage] = []
    for start, end in zip(starts, [*starts[1:], len(found)], strict=True):
        base, *rest = found[start].text.split()
        stages.append(Stage(base, rest[-1] if rest else "", tuple(found[start + 1 : end])))
    return Recipe(arguments, tuple(stages))
