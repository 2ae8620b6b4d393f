"""Owns what counts as a good answer: bounds of waiting, by modality, from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel

from loadtests.outcomes import Outcome

Seconds = Annotated[float, Field(gt=0)]


class Objective(BaseModel):
    """Of one answer. What is left out is not asked for, nor what an answer has not: a whole one has no first piece."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_to_first_s: Seconds | None = None
    between_chunks_p99_s: Seconds | None = None
    end_to_end_s: Seconds | None = None

    def is_met(self, outcome: Outcome) -> bool:
        pairs = (
            (self.time_to_first_s, outcome.time_to_first_s),
            (self.between_chunks_p99_s, outcome.gap_s(0.99)),
            (self.end_to_end_s, outcome.end_to_end_s),
        )
        return all(bound is None or got is None or got <= bound for bound, got in pairs)


class Objectives(RootModel[dict[str, Objective]]):
    """By modality. One without an objective keeps it with every answer."""

    def is_good(self, outcome: Outcome) -> bool:
        objective = self.root.get(outcome.modality)
        return outcome.answered and (objective is None or objective.is_met(outcome))

    @classmethod
    def read(cls, path: Path) -> Objectives:
        """Raises OSError, yaml.YAMLError, pydantic.ValidationError."""
        return cls.model_validate(yaml.safe_load(path.read_text()))
