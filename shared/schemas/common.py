"""Owns what every schema shares: the strict bases, the error body, the model list and the health answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from shared.reports import ModelState


class RequestModel(BaseModel):
    """A request body: unknown fields are refused by name, types are not coerced, values do not change.

    Lists are declared with `fail_fast`, so that a body of a million bad items costs one error, not a million.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def refusal(param: str, message: str) -> PydanticCustomError:
    """What a validator that looks at several fields raises: `param` names the field that the client should change."""
    return PydanticCustomError("refused", "{message}", {"param": param, "message": message})


class ResponseModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorDetail(ResponseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(ResponseModel):
    error: ErrorDetail


class ModelCard(ResponseModel):
    """One entry of GET /v1/models: OpenAI's four fields, then what Castalia adds.

    `targets` are the models that a route leads to; a model itself has none. `base`: of an adapter, the model that it
    changes.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    family: str
    tasks: list[str]
    modalities: list[str]
    limits: dict[str, float]
    license: str
    revision: str
    state: ModelState
    targets: list[str] = []
    base: str | None = None


class ModelList(ResponseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(ResponseModel):
    """The process answers. Says nothing about the models."""

    status: Literal["ok"] = "ok"


class Readiness(ResponseModel):
    """Which services that keep a replica answered through the data path, and which did not."""

    status: Literal["ready"] = "ready"
    services: list[str]
    silent: list[str]
