"""Owns what the configuration of every family shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator

from shared.config.accelerators import device_share

# What a client may ask for by `model`.
PublicName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]

# A label's value, as Kubernetes and Ray take it.
ACCELERATOR = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"


class ConfigModel(BaseModel):
    # No message quotes what was written: a key in the wrong place would end up in a log.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ReplicaRange(ConfigModel):
    """How many replicas a service has, and what changes their number: see docs/autoscaling.md. `min: 0` scales to zero.

    A replica's predicted wait is the cost that is queued there over the rate at which its queue has drained of late.
    """

    min: int = Field(default=1, ge=0)
    max: int = Field(default=1, ge=1)
    target_wait_s: float = Field(
        default=5, gt=0, description="replicas are added while a new request is predicted to wait longer than this"
    )
    target_busy: float = Field(
        default=0.8, gt=0, le=1, description="or while they do more than this share of what they can do"
    )
    target_ongoing: float = Field(
        default=8, gt=0, description="requests for each replica, as long as no rate has been measured to predict with"
    )
    growth: float = Field(
        default=2, gt=1, description="the most replicas wanted at once, as a multiple of those that run"
    )
    release: float = Field(
        default=0.8, gt=0, lt=1, description="a smaller number of replicas must keep below this share of the targets"
    )
    upscale_delay_s: float = Field(default=1, ge=0, description="how long that must last before they are")
    downscale_delay_s: float = Field(
        default=180, ge=0, description="how long fewer must have been enough; some times what a model takes to load"
    )
    idle_s: float = Field(default=300, ge=0, description="with min 0: how long without a request before the last stops")
    surge_percent: int = Field(
        default=0, ge=0, le=100, description="when they are replaced, how many more may run meanwhile, rounded up"
    )

    @property
    def targets(self) -> dict[str, float]:
        """What the policy is given, by the same names: what reaches it, or does its work, by Ray is left out."""
        return self.model_dump(exclude={"min", "max", "surge_percent"})

    @model_validator(mode="after")
    def _ordered(self) -> ReplicaRange:
        if self.min > self.max:
            raise ValueError(f"replicas.min ({self.min}) is over replicas.max ({self.max})")
        return self


class Resources(ConfigModel):
    """What one replica reserves in Ray: `num_cpus` is no limit on use; `memory` also bounds its loaded models.

    A part of a device is asked for as `num_gpus`, or as `gpu_memory` of an `accelerator`, which also bounds what the
    replica takes there: services whose parts fit share the device.
    """

    num_cpus: float = Field(default=0.05, ge=0)
    num_gpus: float = Field(default=0, ge=0)
    memory: ByteSize = Field(default=ByteSize(2 * 2**30), gt=0)
    gpu_memory: ByteSize | None = Field(
        default=None, gt=0, description="device memory of one replica, in place of num_gpus; needs accelerator"
    )
    accelerator: str | None = Field(
        default=None, pattern=ACCELERATOR, description="Ray's name of the type of device: L4, H100, A100-80G ..."
    )

    @model_validator(mode="after")
    def _placeable(self) -> Resources:
        if self.gpu_memory is None:
            if self.accelerator is not None and self.num_gpus == 0:
                raise ValueError(f"accelerator {self.accelerator} needs gpu_memory or num_gpus")
            return self
        if self.accelerator is None:
            raise ValueError("gpu_memory needs accelerator: the device's memory says what part it is")
        if self.num_gpus:
            raise ValueError(f"gpu_memory and num_gpus ({self.num_gpus:g}) both say what part of a device it is")
        device_share(self.gpu_memory, self.accelerator)
        return self

    @property
    def device_share(self) -> float:
        """The devices, or the part of one, that a replica takes: Ray's num_gpus."""
        if self.gpu_memory is None or self.accelerator is None:
            return self.num_gpus
        return device_share(self.gpu_memory, self.accelerator)


# Where files of weights come from, as `services.sources` reads it.
Source = Annotated[str, Field(pattern=r"^(builtin|hf|pypi|file)://.+")]


class ModelEntry(ConfigModel):
    """What every entry of `models:` says, wherever the model runs."""

    MODALITIES: ClassVar[tuple[str, ...]]

    id: PublicName
    license: str = "unknown"

    @property
    def does(self) -> tuple[str, ...]:
        """The tasks that the model takes."""
        raise NotImplementedError

    @property
    def based_on(self) -> str | None:
        """The model of the same service whose weights it needs beside its own; None: it stands alone."""
        return None

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """The most units that a request can cost; `limits` are the model's own, empty before its first report."""
        raise NotImplementedError


class LocalModel(ModelEntry):
    """A model that runs here, from weights of its own."""

    TASKS: ClassVar[tuple[str, ...]]

    @property
    def does(self) -> tuple[str, ...]:
        return self.TASKS

    @property
    def weights(self) -> str:
        """The source of its own weights."""
        raise NotImplementedError

    @property
    def revision(self) -> str:
        """What pins the weights, fit for clients' eyes: a hub revision, a package version, a name; never a path."""
        scheme, _, place = self.weights.partition("://")
        match scheme:
            case "hf":
                return place.rpartition("@")[2]
            case "pypi":
                return place.partition("==")[2].partition("/")[0]
            case "builtin":
                return place
            case _:
                return "local"


class ModelConfig(LocalModel):
    """A whole model: where its weights come from, and where and how precisely it runs."""

    source: Source
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    dtype: str = Field(default="float32", pattern=r"^(float32|bfloat16|float16)$")
    max_batch_size: int = Field(default=16, ge=1, le=1024)

    @property
    def weights(self) -> str:
        return self.source


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

    @property
    def devices(self) -> int:
        """How many devices of one machine a replica's model is spread over: over 1, each is placed for itself."""
        return 1
