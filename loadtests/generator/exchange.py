"""Owns one HTTP exchange of a load test: a body out, an answer to its reader as it arrives, and what became of it.

By geventhttpclient itself and not Locust's FastHttpUser, whose streams wait for a full kilobyte before they give any of
it, and end without a word where a connection is cut.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse

from loadtests.generator.answers import Reader
from loadtests.outcomes import Reply, reply_of_status
from loadtests.sse import StreamCut, StreamFailed

CONNECT_TIMEOUT_S = 10
SILENCE_S = 120  # without a byte: longer than any answer of the gateway is silent
BLOCK = 64 * 1024  # bytes read at once
MISSED = "deadline_exceeded"  # the code of an error inside a stream
_QUEUE = re.compile(r"(?:^|,)\s*queue\s*;(?:[^,]*;)?\s*dur\s*=\s*([0-9.]+)", re.IGNORECASE)

Clock = Callable[[], float]


class Unreachable(Exception):
    """No answer, or another status than 200; the message says which."""


class Client:
    """One user's connections, kept open from one request to the next."""

    def __init__(
        self,
        host: str,
        *,
        connections: int,
        key: str | None = None,
        deadline_s: float | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Raises ValueError for a host that is no URL of HTTP."""
        parts = urlsplit(host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--host must be a URL such as http://127.0.0.1:8000; got {host!r}")
        self._http = HTTPClient(
            parts.hostname,
            parts.port,
            ssl=parts.scheme == "https",
            concurrency=connections,
            connection_timeout=CONNECT_TIMEOUT_S,
            network_timeout=SILENCE_S,
            block_size=BLOCK,
        )
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        if deadline_s is not None:
            self._headers["x-castalia-deadline-ms"] = str(round(deadline_s * 1e3))
        self._clock = clock

    def get(self, path: str) -> bytes:
        """Raises Unreachable."""
        try:
            response = self._http.request("GET", self._prefix + path, headers=self._headers)
            data = response.read()
        except (OSError, HTTPParseError) as error:
            raise Unreachable(f"GET {path}: {_why(error)}") from error
        if response.status_code != 200:
            raise Unreachable(f"GET {path}: {response.status_code}: {data[:300].decode(errors='replace')}")
        return data

    def post(self, path: str, body: bytes, reader: Reader) -> Reply:
        """Send, and read to the end."""
        try:
            response = self._http.request("POST", self._prefix + path, body, headers=self._headers)
        except (OSError, HTTPParseError) as error:
            return Reply("failed", 0, _why(error))
        try:
            return self._read(response, reader)
        finally:
            response.release()  # closes the connection of an answer that was not read to its end

    def _read(self, response: HTTPSocketPoolResponse, reader: Reader) -> Reply:
        status, queue_s = response.status_code, queue_seconds(_field(response, "server-timing"))
        try:
            if status != 200:
                return reply_of_status(status, _field(response, "retry-after"), response.read(), queue_s)
            for data in pieces(response, is_whole=reader.is_whole):
                reader.feed(data, self._clock())
            reader.end()
        except StreamCut as error:
            return Reply("truncated", status, str(error), queue_s)
        except StreamFailed as error:
            return Reply("late" if error.code == MISSED else "failed", status, _short(error), queue_s)
        except TimeoutError:
            return Reply("failed", status, f"no byte for {SILENCE_S} seconds", queue_s)
        except (OSError, HTTPParseError) as error:
            return Reply("truncated" if status == 200 else "failed", status, _why(error), queue_s)
        return Reply("answered", status, queue_s=queue_s)

    def close(self) -> None:
        self._http.close()


def pieces(response: HTTPSocketPoolResponse, *, is_whole: bool) -> Iterator[bytes]:
    """The body: line by line, each as soon as it is there, or in one piece."""
    while not is_whole and (line := response.readline(b"\n")):
        yield line
    if rest := response.read():
        yield rest


def queue_seconds(server_timing: str | None) -> float | None:
    """What the response header `server-timing` says of the wait in the queue; None if it says nothing."""
    found = _QUEUE.search(server_timing or "")
    try:
        return None if found is None else float(found[1]) / 1e3
    except ValueError:
        return None


def _field(response: HTTPSocketPoolResponse, name: str) -> str | None:
    value = response.get(name)
    return ", ".join(value) if isinstance(value, list) else value


def _why(error: Exception) -> str:
    """Of a broken connection. Without ports and addresses, by which no two errors would be alike."""
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _short(error: StreamFailed) -> str:
    """A server's error by its code: its message may be unlike each time."""
    return f"{error.code} inside the answer" if error.code else str(error)
