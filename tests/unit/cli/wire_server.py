"""A gateway's wire format on loopback, scripted: what to answer, and what was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = [
    {"id": "speaker", "family": "speech", "tasks": ["speech"], "state": "cold", "license": "MIT", "limits": {}},
    {
        "id": "tiny",
        "family": "transformer",
        "tasks": ["chat", "completion"],
        "state": "ready",
        "license": "Apache-2.0",
        "limits": {"context_length": 256},
    },
    {"id": "painter", "family": "gan", "tasks": ["image"], "state": "ready", "license": "MIT", "limits": {}},
]
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


class WireServer(ThreadingHTTPServer):
    """`pieces` are the texts of a streamed answer, `calls` the pieces of its calls of tools behind them, `events` those
    of one that draws or sounds, `lines` those of a list, `file` is the speech, `metrics` are readings, the last of them
    again and again; `ending` says how a stream ends.

    done: as it should; cut: the connection closes early; clean: it ends without [DONE]; error: an error event, then a
    cut; hang: it waits until the client goes away, and then sets `left`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.models = list(MODELS)
        self.pieces = ["Hel", "lo\u2028é"]
        self.calls: list[Mapping[str, object]] = []
        self.events: list[Mapping[str, object]] = []
        self.lines: list[Mapping[str, object]] = []
        self.file = b""
        self.metrics: list[str] = []
        self.ending = "done"
        self.reason = "stop"
        self.refusal: tuple[int, Mapping[str, object] | str] | None = None
        self.asked: list[dict[str, Any]] = []
        self.headers_seen: list[Mapping[str, str]] = []
        self.left = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[WireServer]:
    with WireServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: WireServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.headers_seen.append(dict(self.headers))
        if self.path == "/v1/models" and self.server.refusal is None:
            self._plain(200, {"object": "list", "data": self.server.models})
        elif self.path == "/metrics" and self.server.metrics:
            readings = self.server.metrics
            self._plain(200, readings.pop(0) if len(readings) > 1 else readings[0])
        elif self.path == "/readyz":
            self._plain(200, {"status": "ready", "services": [], "silent": []})
        else:
            self._plain(*(self.server.refusal or (404, {})))

    def do_POST(self) -> None:
        self.server.headers_seen.append(dict(self.headers))
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.refusal is not None:
            self._plain(*self.server.refusal)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        match self.path:
            case "/v1/chat/completions" | "/v1/completions":
                self._stream(chat=self.path == "/v1/chat/completions")
            case "/v1/images/generations" | "/v1/audio/generations":
                for event in self.server.events:
                    self._event(event)
                self._end(b"data: [DONE]\n\n")
            case "/v1/audio/speech":
                self._end(self.server.file)
            case _:
                for line in self.server.lines:
                    self._chunk(json.dumps(line).encode() + b"\n")
                self._end()

    def _end(self, last: bytes = b"") -> None:
        """As it should, after the `last` bytes; or none of this, and the connection closes."""
        if self.server.ending == "done":
            if last:
                self._chunk(last)
            self._chunk(b"")
        self.close_connection = self.server.ending != "done"

    def _stream(self, *, chat: bool) -> None:
        self._chunk(b": ping\n\n")
        if chat:
            self._event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        for piece in self.server.pieces:
            choice = {"delta": {"content": piece}} if chat else {"text": piece}
            self._event({"choices": [{**choice, "finish_reason": None}], "usage": None})
        for call in self.server.calls:
            self._event({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": None}], "usage": None})
        match self.server.ending:
            case "done":
                last = {"delta": {}} if chat else {"text": ""}
                self._event({"choices": [{**last, "finish_reason": self.server.reason}], "usage": None})
                self._event({"choices": [], "usage": USAGE})
                self._chunk(b"data: [DONE]\n\n")
                self._chunk(b"")
            case "clean":
                self._chunk(b"")
            case "error":
                self._event(
                    {"error": {"message": "the model failed", "type": "server_error", "code": "internal_error"}}
                )
            case "hang":
                self.connection.recv(1)
                self.server.left.set()
        self.close_connection = self.server.ending != "done"

    def _event(self, content: object) -> None:
        """One event, sent in two chunks that split it anywhere, a multi-byte character included."""
        event = f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
        middle = len(event) // 2
        self._chunk(event[:middle])
        self._chunk(event[middle:])

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def _plain(self, status: int, content: Mapping[str, object] | str) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-request-id", "req-7")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
