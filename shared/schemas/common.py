"""Owns what every schema shares: the strict base, the model list and the error body."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class RequestModel(BaseModel):
    """A request body: unknown fields are refused by name, types are not coerced, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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
    """One entry of GET /v1/models: OpenAI's four fields, then what Castalia adds."""

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
    state: Literal["cold", "loading", "ready", "failed"]


class ModelList(ResponseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
