"""Owns what a fleet tells of itself: its services with their replicas, and the cards of its models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.reports import ModelState
from shared.schemas.common import ResponseModel


class ModelOnReplica(ResponseModel):
    """What a replica reported of a model. Counts only grow for as long as the replica lives."""

    model: str
    state: ModelState
    waiting_rows: int
    running_rows: int
    steps: int
    row_steps: int = Field(description="rows stepped, summed over steps: over `steps` it is the mean batch occupancy")
    units: float = Field(description="work done, in the model's own unit")
    finished_rows: dict[str, int] = Field(description="by how they ended")
    first_chunks: int = Field(description="rows that have given a first piece")
    first_chunk_seconds: float = Field(description="from their submission to it, summed over them")


class Replica(ResponseModel):
    replica: str
    models: list[ModelOnReplica]


class ServiceStatus(ResponseModel):
    """A service and the replicas that answered just now. One of a remote server has no bounds and no replicas."""

    name: str
    family: str
    models: list[str]
    min_replicas: int | None = Field(default=None, description="of the bounds between which their number follows load")
    max_replicas: int | None = None
    replicas: list[Replica]


class FleetStatus(ResponseModel):
    object: Literal["fleet"] = "fleet"
    services: list[ServiceStatus]


class CardFile(ResponseModel):
    name: str
    media_type: str
    b64: str = Field(description="the file's bytes in base64")


class CardDocument(ResponseModel):
    """A model's card: what it was trained on and how good it is, with sheets of samples.

    `held_out` is the committed sample of data that it was not trained on, where that is a text.
    """

    object: Literal["model.card"] = "model.card"
    model: str
    markdown: str
    sheets: list[CardFile]
    held_out: CardFile | None = None
