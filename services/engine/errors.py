"""Owns the engine's typed refusals and failures. The replica maps them to HTTP errors."""

from __future__ import annotations


class EngineError(Exception):
    """Base of every error that the engine raises."""


class QueueFull(EngineError):
    """The waiting work would exceed the queue's bound, in units of cost."""

    def __init__(self, *, limit: float, waiting: float, got: float) -> None:
        super().__init__(f"queue bound is {limit:g} units; {waiting:g} wait already and {got:g} were asked for")
        self.limit, self.waiting, self.got = limit, waiting, got


class UnknownModel(EngineError):
    """No sampler is registered under this id."""


class ModelBusy(EngineError):
    """The model still has rows, waiting or running, so it cannot be unregistered."""


class Draining(EngineError):
    """The engine takes no new work; what runs is finished."""


class EngineUnhealthy(EngineError):
    """The engine thread died, a step hangs, or the device failed. The replica must be replaced."""


class OutboxFull(EngineError):
    """The consumer let too many outputs pile up; its submission was aborted."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} outputs wait already and nobody takes them")
        self.limit = limit


class RowFailed(EngineError):
    """One row failed alone: its step raised when retried by itself, or its values were not finite."""


class DeviceFailure(EngineError):
    """Raised by a sampler when its device can no longer be trusted (CUDA error, out of memory). Never retried."""
