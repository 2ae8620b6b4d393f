"""Owns what the configuration of every family shares."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator


class ConfigModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplicaRange(ConfigModel):
    """How many replicas a service has. `min: 0` scales to zero; `target_ongoing` requests a replica adds one."""

    min: int = Field(default=1, ge=0)
    max: int = Field(default=1, ge=1)
    target_ongoing: float = Field(default=8, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> ReplicaRange:
        if self.min > self.max:
            raise ValueError(f"replicas.min ({self.min}) is over replicas.max ({self.max})")
        return self


class Resources(ConfigModel):
    """What one replica reserves in Ray: `num_cpus` is no limit on use; `memory` also bounds its loaded models."""

    num_cpus: float = Field(default=0.05, ge=0)
    num_gpus: float = Field(default=0, ge=0)
    memory: ByteSize = Field(default=ByteSize(2 * 2**30), gt=0)


class ModelConfig(ConfigModel):
    """One model: its public id, where its weights come from, and where and how precisely it runs."""

    TASKS: ClassVar[tuple[str, ...]]
    MODALITIES: ClassVar[tuple[str, ...]]

    id: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")
    source: str = Field(pattern=r"^(builtin|hf|pypi|file)://.+")
    license: str = "unknown"
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    dtype: str = Field(default="float32", pattern=r"^(float32|bfloat16|float16)$")
    max_batch_size: int = Field(default=16, ge=1, le=1024)

    @property
    def revision(self) -> str:
        """What pins the weights, fit for clients' eyes: a hub revision, a package version, a name; never a path."""
        scheme, _, place = self.source.partition("://")
        match scheme:
            case "hf":
                return place.rpartition("@")[2]
            case "pypi":
                return place.partition("==")[2].partition("/")[0]
            case "builtin":
                return place
            case _:
                return "local"


class ServiceConfig(ConfigModel):
    """One Ray Serve deployment that hosts one or more models of a family."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$")
    replicas: ReplicaRange = ReplicaRange()
    resources: Resources = Resources()
    max_waiting_cost: float = Field(default=65536, gt=0, description="bound of a replica's queue, in units of work")
    hung_step_s: float = Field(default=60, gt=0, description="a step that takes longer makes the replica unhealthy")
