"""Clients that are slow, or send too much, against the whole of a fleet: HAProxy, Ray Serve, the gateway."""

from __future__ import annotations

import socket

import httpx
import openai
import pytest

from tests.integration.conftest import LocalFleet

PATIENCE_S = 30.0  # until a test fails: all of these are to end within the fleet's own limits
LINE = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n"
JSON = b"content-type: application/json\r\n"
LARGE = 10**6  # bytes, of which few come: HAProxy waits for no more than its buffer holds
HALF_SENT = {
    "headers": (LINE, b"HTTP/1.1 408 ", b""),
    "a small body": (LINE + JSON + b"content-length: 100\r\n\r\n{", b"HTTP/1.1 400 ", b"request_timeout"),
    "a large body": (
        LINE + JSON + b"content-length: %d\r\n\r\n" % LARGE + b" " * 30_000,
        b"HTTP/1.1 400 ",
        b"request_timeout",
    ),
    "a large body that nobody reads": (
        LINE.replace(b"completions", b"nothing") + JSON + b"content-length: %d\r\n\r\n" % LARGE + b" " * 30_000,
        b"HTTP/1.1 404 ",
        b"not_found",
    ),
}


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed from the other side, which it must be."""
    pieces: list[bytes] = []
    try:
        while piece := connection.recv(2**16):
            pieces.append(piece)
    except TimeoutError:
        pytest.fail(f"the connection stays open after {pieces}")
    except ConnectionResetError:
        assert pieces
    return b"".join(pieces)


def test_slow_clients_are_put_out_while_others_are_answered(local_fleet: LocalFleet) -> None:
    url = httpx.URL(local_fleet.url)
    slow = {kind: socket.create_connection((url.host, url.port), timeout=PATIENCE_S) for kind in HALF_SENT}
    try:
        for kind, connection in slow.items():
            connection.sendall(HALF_SENT[kind][0])
        client: openai.OpenAI = local_fleet.openai()
        assert client.completions.create(model="qwen", prompt="a", max_tokens=4).choices
        for kind, connection in slow.items():
            _, status, word = HALF_SENT[kind]
            said = rest_of(connection)
            assert said.startswith(status), (kind, said)
            assert word in said, (kind, said)
    finally:
        for connection in slow.values():
            connection.close()


def test_a_megabyte_of_headers_is_refused_and_the_next_client_answered(local_fleet: LocalFleet) -> None:
    with local_fleet.http() as client:
        assert client.get("/v1/models", headers={"x": "a" * 2**20}).status_code == httpx.codes.BAD_REQUEST
        assert client.get("/v1/models").status_code == httpx.codes.OK
