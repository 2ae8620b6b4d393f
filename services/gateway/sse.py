"""Owns a server-sent event stream: when headers go out, comments, the end, and the cut after a failure.

Events: https://html.spec.whatwg.org/multipage/server-sent-events.html. Never sees what an event says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.types import Send

from services.gateway.problems import error_body
from shared.events import Failed

DONE = b"data: [DONE]\n\n"
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache, no-transform")]


class SseWriter:
    """Writes one stream. Nothing is sent before the first event or comment, so that a refusal keeps its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = asyncio.Lock()  # events and comments come from two tasks
        self._last_write = time.monotonic()
        self.started = False
        self.finished = False

    async def write(self, data: bytes) -> None:
        """Send whole events or comments; the first brings the headers along."""
        await self._emit(data, more=True)

    async def finish(self, data: bytes) -> None:
        """Send the last events and the end of a stream that succeeded."""
        await self._emit(data + DONE, more=False)

    async def fail(self, failure: Failed) -> None:
        """Send the error event and leave the response incomplete.

        The server then closes the connection without the last chunk, which a client sees as a broken transfer: it
        would take a clean end for success.
        """
        await self.write(b"data: " + error_body(failure) + b"\n\n")

    async def keep_alive(self, *, first_s: float, every_s: float, comment: Callable[[], bytes]) -> None:
        """Send a comment when nothing was sent for `first_s` seconds, then `every_s`. Runs until cancelled."""
        await asyncio.sleep(first_s)
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
                await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            self.finished = not more
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            self._last_write = time.monotonic()
