"""Owns the names that a family implements: tasks, samplers, step outputs. Standard library only.

A family turns a client's request into independent rows of parameters (`Task.prepare`), and advances running rows one
quantum at a time (`Sampler.step`). Everything else, such as queues, batches, deadlines and failures, is the engine's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Generic, Protocol, TypeVar

RequestT_contra = TypeVar("RequestT_contra", contravariant=True)
ParamsT = TypeVar("ParamsT", bound="Params")
ParamsT_co = TypeVar("ParamsT_co", bound="Params", covariant=True)
ParamsT_contra = TypeVar("ParamsT_contra", bound="Params", contravariant=True)
StateT = TypeVar("StateT")
ChunkT_co = TypeVar("ChunkT_co", covariant=True)
ChunkT_contra = TypeVar("ChunkT_contra", contravariant=True)
EventT_co = TypeVar("EventT_co", covariant=True)


class FinishReason(StrEnum):
    STOP = "stop"  # the model ended, or a stop condition was met
    LENGTH = "length"  # the requested amount was made
    ABORT = "abort"  # the client went away
    DEADLINE = "deadline"
    ERROR = "error"


class Params(Protocol):
    """What one row needs to run. `task` names the task; `cost` predicts the work in the model's own unit."""

    @property
    def task(self) -> str: ...
    @property
    def cost(self) -> float: ...


def steps_of(params: Params) -> float:
    """How many steps the row is predicted to take: its `predicted_steps`, or as many as its cost where it has none.

    A model whose steps do unlike amounts of work says both: a prompt is read in few steps, an answer takes one a token.
    """
    return float(getattr(params, "predicted_steps", params.cost))


@dataclass(frozen=True, slots=True)
class StepOutput(Generic[ChunkT_co]):
    """What one quantum gave one row. A row with a `finish_reason` is not stepped again."""

    chunk: ChunkT_co | None  # None: progress without output
    finish_reason: FinishReason | None
    units: float  # work done, in the model's own unit


@dataclass(frozen=True, slots=True)
class Preview(Generic[ChunkT_co]):
    """A chunk that a later preview of the same row replaces, if the consumer has not taken it yet."""

    chunk: ChunkT_co


class Task(Protocol[RequestT_contra, ParamsT_co, ChunkT_contra, EventT_co]):
    """What a client may ask of a model of this family."""

    # Whether `encode` takes more than a fraction of a millisecond, and so runs on a worker thread.
    encodes_slowly: ClassVar[bool]

    def prepare(self, request: RequestT_contra, salt: str = "") -> Sequence[ParamsT_co]:
        """Check bounds and fan the request out into independent rows. Runs on a worker thread.

        Rows of equal salts may share what is kept of their prompts, rows of unequal ones nothing that time could tell.
        Raises a typed client error (4xx) for what can never run. Row i's seed is derived from (seed, i).
        """
        ...

    def encode(self, chunk: ChunkT_contra) -> EventT_co:
        """Turn a chunk into an event for the wire, or into a tuple of several in order.

        Runs on the event loop, or on a worker thread: `encodes_slowly`.
        """
        ...


class Sampler(Protocol[ParamsT_contra, StateT, ChunkT_co]):
    """How one family advances. Every tensor lives behind these names; all calls come from the engine thread."""

    @property
    def max_batch_size(self) -> int:
        """The most rows that one step takes."""
        ...

    def batch_key(self, params: ParamsT_contra) -> Hashable:
        """Rows with equal keys share steps. Only what truly cannot share a step belongs here."""
        ...

    def fits(self, params: ParamsT_contra, states: Sequence[StateT]) -> bool:
        """Whether the row can join these running states (all of this sampler's) within the memory budget."""
        ...

    def start(self, params: ParamsT_contra) -> StateT:
        """Allocate and seed. Cheap: no forward pass."""
        ...

    def step(self, states: Sequence[StateT]) -> Sequence[StepOutput[ChunkT_co]]:
        """Advance every row by one quantum, each in its own phase; outputs are in the order of `states`.

        Compute first, commit last: if this raises, every state is as before the call. A row whose values are not
        finite is reported with FinishReason.ERROR. Raises DeviceFailure when the device can no longer be trusted.
        """
        ...

    def release(self, state: StateT) -> None:
        """Free what `start` allocated: the row finished, was aborted, was late or failed."""
        ...
