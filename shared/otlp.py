"""Owns OpenTelemetry: spans made by its SDK, and their export by OTLP over HTTP. Imported where it is asked for."""

from __future__ import annotations

import time
from importlib import import_module

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.tracing import Attributes, Kind, Span, TracingUnavailable

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"  # of the extra `tracing`
KINDS = {Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT, Kind.INTERNAL: SpanKind.INTERNAL}


class SdkSpan:
    """A `Span` of the SDK's."""

    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    @property
    def is_recorded(self) -> bool:
        return self._span.is_recording()

    @property
    def traceparent(self) -> str:
        """Also of a span that is not sampled: whoever comes after must not sample it either."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attribute("error.type", error)

    def end(self) -> None:
        self._span.end()


class SdkTracer:
    """A `Tracer` with a provider of its own: nothing global is read or set but OpenTelemetry's environment variables.

    `ratio` is the share of traces that are sampled, where no parent says whether its own is.
    """

    def __init__(self, processor: SpanProcessor, *, ratio: float, service: str, instance: str) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create({"service.name": service, "service.instance.id": instance}),
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("castalia")
        self._propagator = TraceContextTextMapPropagator()

    def start(self, name: str, kind: Kind, *, parent: str | None, attributes: Attributes) -> Span:
        context = self._context(parent)
        return SdkSpan(self._tracer.start_span(name, context, KINDS[kind], attributes))

    def record(self, name: str, *, parent: str | None, began: float, ended: float, attributes: Attributes) -> None:
        epoch = time.time_ns() - time.monotonic_ns()
        begin, end = (epoch + round(seconds * 1e9) for seconds in (began, ended))
        span = self._tracer.start_span(name, self._context(parent), attributes=attributes, start_time=begin)
        span.end(end)

    def close(self) -> None:
        self._provider.shutdown()

    def _context(self, parent: str | None) -> Context:
        """Never the context that the task runs in: others' libraries may have set one there."""
        return self._propagator.extract({"traceparent": parent} if parent else {}, Context())


def otlp_tracer(endpoint: str, *, ratio: float, service: str, instance: str) -> SdkTracer:
    """Sends spans to a collector in batches, from a thread of its own. Raises TracingUnavailable."""
    try:
        module = import_module(EXPORTER)
    except ImportError as error:
        raise TracingUnavailable("CASTALIA_OTLP_ENDPOINT needs an extra: pip install 'castalia[tracing]'") from error
    exporter = module.OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    return SdkTracer(BatchSpanProcessor(exporter), ratio=ratio, service=service, instance=instance)
