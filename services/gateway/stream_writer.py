"""Owns a streamed answer: when headers go out, comments, the end, and the cut after a failure.

Events: https://html.spec.whatwg.org/multipage/server-sent-events.html. Lines of JSON: https://github.com/ndjson/ndjson-spec.
Never sees what an event or a line says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Send

from services.gateway.problems import error_body
from shared.events import Failed


@dataclass(frozen=True, slots=True)
class Framing:
    """How pieces are told apart: what is around an error, what ends a stream that succeeded, and comments.

    `tells_failures`: whether an error can be written into it at all; `failed` writes one that is more than that.
    """

    media_type: bytes
    before: bytes
    after: bytes
    done: bytes
    has_comments: bool
    tells_failures: bool = True
    failed: Callable[[Failed], bytes] | None = None


SSE = Framing(b"text/event-stream; charset=utf-8", b"data: ", b"\n\n", b"data: [DONE]\n\n", has_comments=True)
NDJSON = Framing(b"application/x-ndjson", b"", b"\n", b"", has_comments=False)


class StreamWriter:
    """Writes one stream. Nothing is sent before the first piece or comment, so that a refusal keeps its status."""

    def __init__(self, send: Send, framing: Framing) -> None:
        self._send = send
        self._framing = framing
        self._lock = asyncio.Lock()  # pieces and comments come from two tasks
        self._last_write = time.monotonic()
        self.started = False
        self.finished = False

    async def write(self, data: bytes) -> None:
        """Send whole pieces or comments; the first brings the headers along."""
        await self._emit(data, more=True)

    async def finish(self, data: bytes) -> None:
        """Send the last pieces and the end of a stream that succeeded."""
        await self._emit(data + self._framing.done, more=False)

    async def fail(self, failure: Failed) -> None:
        """Send the error and leave the response incomplete.

        The server then closes the connection without the last chunk, which a client sees as a broken transfer: it
        would take a clean end for success.
        """
        framing = self._framing
        if not framing.tells_failures:
            return
        if framing.failed is None:
            await self.write(framing.before + error_body(failure) + framing.after)
        else:
            await self.write(framing.failed(failure))

    async def keep_alive(self, *, first_s: float, every_s: float, comment: Callable[[], bytes]) -> None:
        """Send a comment when nothing was sent for `first_s` seconds, then `every_s`. Runs until cancelled.

        Of a framing without comments, only the headers go out after `first_s`.
        """
        await asyncio.sleep(first_s)
        if not self._framing.has_comments:
            if not self.started:
                await self.write(b"")
            return
        if not self.started:
            await self.write(comment())
        while True:
            wait_s = every_s - (time.monotonic() - self._last_write)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                await self.write(comment())

    async def _emit(self, data: bytes, *, more: bool) -> None:
        async with self._lock:
            if not self.started:
                self.started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers()})
            self.finished = not more
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            self._last_write = time.monotonic()

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"content-type", self._framing.media_type), (b"cache-control", b"no-cache, no-transform")]
