"""Owns the wire format of `/v1/usage`: which days are asked for, and what was used on them."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from shared.schemas.common import RequestModel, ResponseModel

Grouping = Literal["day", "model"]


class UsagePeriod(RequestModel):
    """Days are in UTC."""

    start: date | None = Field(default=None, description="The first day; that of the end's month, if not given.")
    end: date | None = Field(default=None, description="The last day, which counts; today, if not given.")
    model: str | None = Field(default=None, max_length=128, pattern=r"^[^\x00]*$", description="Of this model alone.")


class UsageQuery(UsagePeriod):
    group_by: Grouping | None = Field(
        default=None, description="`day`: all models of a day in one; `model`: all days of a model. Else neither."
    )


class UsageCounts(ResponseModel):
    """`units` are the models' own measure of work: of text, tokens. `requests` are those that work was done for."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    images: int
    units: float


class UsageEntry(UsageCounts):
    """`day` or `model` is null where all of them are taken together."""

    object: Literal["usage"] = "usage"
    day: date | None
    model: str | None


class TenantUsage(UsageCounts):
    object: Literal["usage.tenant"] = "usage.tenant"
    tenant: str


class TenantsUsage(ResponseModel):
    """What each tenant used, of all models and days together, by its name."""

    object: Literal["usage.tenants"] = "usage.tenants"
    start: date
    end: date
    data: list[TenantUsage]
    total: UsageCounts


class UsageReport(ResponseModel):
    """What the caller's tenant used, by day and then by model."""

    object: Literal["usage.report"] = "usage.report"
    tenant: str
    start: date
    end: date
    data: list[UsageEntry]
    total: UsageCounts
