"""Owns scores: how likely a model finds given things, in whatever measure it has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.schemas.common import ResponseModel
from shared.schemas.images import Prompt, Seed
from shared.schemas.items import GivenItems, ItemList

Metric = Literal[
    "log_likelihood", "elbo", "importance_weighted_bound", "energy", "free_energy", "pseudo_log_likelihood"
]
MAX_SAMPLES = 1000


class ScoreRequest(GivenItems):
    """`metric` is one of those that the model has, and its first if left out; a refusal lists them."""

    metric: Metric | None = None
    prompt: Prompt = Field(default="", description="a class: the score is given that class; empty is over all classes")
    samples: int | None = Field(default=None, ge=1, le=MAX_SAMPLES, description="draws of an estimate, for each item")
    seed: Seed | None = Field(default=None, description="of an estimate's draws")


class Percentile(ResponseModel):
    """The share, in percent, of images or records that the model finds less likely than this one."""

    training: float
    held_out: float


class Score(ResponseModel):
    """One item's score. `kind` says how `value` relates to what `metric` names.

    An energy is the lower the likelier; every other metric the higher. `unnormalised`: up to a constant of the model.
    """

    object: Literal["score"] = "score"
    index: int
    metric: Metric
    unit: Literal["nats"] = "nats"
    kind: Literal["exact", "lower_bound", "estimate", "unnormalised"]
    value: float
    standard_error: float | None = Field(default=None, description="of an estimate")
    bits_per_dimension: float | None = Field(default=None, description="of a likelihood or its bound, of 8-bit pixels")
    bits_per_token: float | None = Field(default=None, description="of a likelihood of tokens, ends included")
    percentile: Percentile | None = Field(default=None, description="0 is stranger than all that the model was shown")
    seed: int | None = Field(default=None, description="gives this very estimate again")


class Scores(ItemList):
    data: list[Score]
