"""Owns how a request's way is told as spans, which find each other by W3C `traceparent`. Never sees an exporter.

Attributes follow OpenTelemetry's conventions for HTTP and for generative AI; docs/tracing.md lists them. A prompt or an
answer is never one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Protocol

from shared.config.settings import Settings
from shared.errors import ServiceError

Attributes = Mapping[str, str | bool | int | float | Sequence[str]]

PROVIDER = "castalia"
# What OpenTelemetry calls the operations that it knows; the others go by the name of their task.
OPERATIONS = {"completion": "text_completion", "embedding": "embeddings"}


class TracingUnavailable(Exception):
    """Traces are asked for, and what exports them is not installed."""


class Kind(Enum):
    SERVER = auto()
    CLIENT = auto()
    INTERNAL = auto()


class Span(Protocol):
    """A piece of a request's way, from `Tracer.start` to `end`."""

    @property
    def is_recorded(self) -> bool:
        """Whether anybody will see it: what it would be told need not be worked out otherwise."""
        ...

    @property
    def traceparent(self) -> str | None:
        """What its parts are given as their parent. None: nothing is traced."""
        ...

    def note(self, attributes: Attributes) -> None: ...
    def rename(self, name: str) -> None: ...
    def fail(self, error: str) -> None:
        """Mark it as failed, by an error's code or type."""
        ...

    def end(self) -> None: ...


class Tracer(Protocol):
    """Makes spans. `parent` is a `traceparent`, perhaps a client's own; None, or one that is none, begins a trace."""

    def start(self, name: str, kind: Kind, *, parent: str | None, attributes: Attributes) -> Span: ...

    def record(self, name: str, *, parent: str | None, began: float, ended: float, attributes: Attributes) -> None:
        """A span that is over. Its times are in seconds of `time.monotonic`."""
        ...

    def close(self) -> None:
        """Export what is left. May take seconds; call it on a thread."""
        ...


class NoSpan:
    """Stands in for every span where nothing is traced."""

    is_recorded = False
    traceparent = None

    def note(self, attributes: Attributes) -> None: ...
    def rename(self, name: str) -> None: ...
    def fail(self, error: str) -> None: ...
    def end(self) -> None: ...


NO_SPAN = NoSpan()


class NoTracer:
    """Traces nothing, and costs nothing."""

    def start(self, name: str, kind: Kind, *, parent: str | None, attributes: Attributes) -> Span:
        return NO_SPAN

    def record(self, name: str, *, parent: str | None, began: float, ended: float, attributes: Attributes) -> None: ...
    def close(self) -> None: ...


NO_TRACER = NoTracer()


def make_tracer(settings: Settings, *, service: str, instance: str) -> Tracer:
    """What the settings ask for; `service` and `instance` name this process. Raises TracingUnavailable."""
    if settings.otlp_endpoint is None:
        return NO_TRACER
    from shared.otlp import otlp_tracer  # noqa: PLC0415 - where nothing is traced, nothing of it is imported

    return otlp_tracer(settings.otlp_endpoint, ratio=settings.trace_ratio, service=service, instance=instance)


def operation_of(task: str) -> str:
    return OPERATIONS.get(task, task)


def about_call(task: str, model: str) -> dict[str, str]:
    """The attributes of a span that stands for one task of one model."""
    return {
        "gen_ai.operation.name": operation_of(task),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
    }


def error_name(error: BaseException) -> str:
    """An error as an attribute: its code, or its type. Never its message, which may quote a prompt."""
    return (error.code if isinstance(error, ServiceError) else None) or type(error).__name__
