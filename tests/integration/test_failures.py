"""What clients see when a replica dies or when they themselves go away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.conftest import CONTEXT, LocalFleet, Tell

LONG = CONTEXT - 100  # tokens: seconds of work
RECOVERY_S = 60.0  # a new process imports torch and loads the model: 3 to 11 s on two quiet cores, 30 under load
FREED_S = 1.0
PATIENCE_S = 60.0

pytestmark = pytest.mark.alone


def body(model: str, tokens: int, *, stream: bool = True) -> dict[str, object]:
    return {"model": model, "prompt": "a", "max_tokens": tokens, "ignore_eos": True, "stream": stream}


def events(response: httpx.Response) -> Iterator[str]:
    """The data of each server-sent event, until the response ends, however it ends."""
    try:
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield line.removeprefix("data: ")
    except httpx.RemoteProtocolError:
        yield "CUT"


def test_a_killed_replica_fails_its_own_streams_alone_and_is_replaced(local_fleet: LocalFleet, tell: Tell) -> None:
    neighbours: list[int] = []
    over = threading.Event()

    def keep_asking() -> None:
        with local_fleet.http() as client:
            while not over.is_set():
                neighbours.append(client.post("/v1/completions", json=body("qwen", 4, stream=False)).status_code)

    asking = threading.Thread(target=keep_asking)
    with local_fleet.http() as client, client.stream("POST", "/v1/completions", json=body("llama", LONG)) as response:
        assert response.status_code == httpx.codes.OK
        received = events(response)
        assert "error" not in json.loads(next(received))
        asking.start()
        try:
            replica = local_fleet.replica("first")
            replica.kill()
            killed = time.monotonic()
            *_, failure, cut = received
            assert json.loads(failure)["error"]["type"] in ("server_error", "service_unavailable_error")
            assert cut == "CUT", "a clean end would look like success"
            _answers_again(client)
            recovery_s = time.monotonic() - killed
        finally:
            over.set()
            asking.join()
    tell(f"a replica was killed: its model answered again after {recovery_s:.1f} s")
    assert local_fleet.replica("first").pid != replica.pid
    assert len(neighbours) > 1
    assert set(neighbours) == {httpx.codes.OK}


def _answers_again(client: httpx.Client) -> None:
    """Ask until the model answers. In the meantime nothing but the documented refusal is allowed."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        answer = client.post("/v1/completions", json=body("llama", 4, stream=False))
        if answer.status_code == httpx.codes.OK:
            return
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert time.monotonic() < deadline, answer.text


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole answer"])
def test_a_client_that_goes_away_frees_its_slot_within_a_second(
    local_fleet: LocalFleet, tell: Tell, stream: bool
) -> None:
    """The best of three: other processes share the machine."""
    _until_rows(local_fleet, 0)
    before = local_fleet.metric("castalia_finished_rows_total", model="qwen", reason="abort")
    freed_s = sorted(_ask_and_leave(local_fleet, stream=stream) for _ in range(3))
    aborted = local_fleet.metric("castalia_finished_rows_total", model="qwen", reason="abort") - before
    tell(f"a client went away: its slot was free after {freed_s[1]:.2f} s (p50 of 3; best {freed_s[0]:.2f} s)")
    assert aborted == 3, "they ran to their ends instead"
    assert freed_s[0] < FREED_S


def _ask_and_leave(local_fleet: LocalFleet, *, stream: bool) -> float:
    """Seconds from closing the connection of a running request until the metric says that its slot is free."""
    url = httpx.URL(local_fleet.url)
    data = json.dumps(body("qwen", LONG, stream=stream)).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: {url.host}\r\ncontent-type: application/json\r\n"
    with socket.create_connection((url.host, url.port), timeout=60) as connection:
        connection.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        _until_rows(local_fleet, 1)
        if stream:
            assert connection.recv(15).startswith(b"HTTP/1.1 200 ")
    left = time.monotonic()
    _until_rows(local_fleet, 0)
    return time.monotonic() - left


def _until_rows(local_fleet: LocalFleet, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while local_fleet.metric("castalia_running_rows", model="qwen") != count:
        assert time.monotonic() < deadline
