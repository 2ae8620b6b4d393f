"""Owns a tracer whose spans a test can look at, and a collector on loopback in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from loadtests.observed.collector import Collector, server_of
from shared.otlp import SdkTracer


class Traced:
    """A tracer that keeps what it made."""

    def __init__(self, ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self._exporter)
        self.tracer = SdkTracer(processor, ratio=ratio, service="castalia-test", instance="i")

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in that order."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


@dataclass
class Collected:
    """What was sent to `url`."""

    url: str
    collector: Collector

    def names(self) -> list[tuple[str, str]]:
        """Of each span: its process's `service.name`, and its own."""
        return [(span.service, span.name) for span in self.collector.spans]


@contextmanager
def collector() -> Iterator[Collected]:
    found = Collector()
    server = server_of(found)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Collected(f"http://127.0.0.1:{server.server_port}", found)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
