"""Owns a collector of traces: OTLP over HTTP on 127.0.0.1, as a process of its own or as a thread.

    python -m loadtests.observed.collector --port 4318

`GET /spans` answers with all that was sent to it, as JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

Value = str | bool | int | float | list["Value"] | None
KINDS = {
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_INTERNAL: "internal",
}


@dataclass(frozen=True, slots=True)
class Span:
    """`service` is its process's `service.name`. Ids are in hexadecimal, times in seconds since the epoch."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str  # empty: none
    began: float
    ended: float
    attributes: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(slots=True)
class Collector:
    """What was sent, in that order."""

    paths: list[str] = field(default_factory=list[str])
    spans: list[Span] = field(default_factory=list[Span])

    def take(self, path: str, body: bytes) -> None:
        """One export of a process."""
        self.paths.append(path)
        self.spans += spans_of(ExportTraceServiceRequest.FromString(body))


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = str(_attributes(resource.resource.attributes).get("service.name", ""))
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    kind=KINDS.get(span.kind, "other"),
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    began=span.start_time_unix_nano / 1e9,
                    ended=span.end_time_unix_nano / 1e9,
                    attributes=_attributes(span.attributes),
                )


def server_of(collector: Collector, port: int = 0) -> ThreadingHTTPServer:
    """Whoever runs it also ends it. Port 0 is a free one."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, collector))


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, collector: Collector, *arguments: Any) -> None:
        self._collector = collector
        super().__init__(*arguments)  # answers the request

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self._collector.take(self.path, body)
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(json.dumps([asdict(span) for span in self._collector.spans]).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written."""


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(each) for each in value.array_value.values]
        case "string_value" | "bool_value" | "int_value" | "double_value" as kind:
            plain: Value = getattr(value, kind)
            return plain
        case _:
            return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m loadtests.observed.collector", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    server_of(Collector(), parser.parse_args().port).serve_forever()
