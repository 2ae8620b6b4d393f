"""What clients see when a replica dies or when they themselves go away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import httpx

from tests.integration.conftest import CONTEXT, LocalFleet

LONG = CONTEXT - 100  # tokens: seconds of work
RECOVERY_S = 60.0  # a bound for the test, not what is promised: other processes may share the machine


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


def test_a_killed_replica_fails_its_own_streams_alone_and_is_replaced(local_fleet: LocalFleet) -> None:
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
            *_, failure, cut = received
            assert json.loads(failure)["error"]["type"] in ("server_error", "service_unavailable_error")
            assert cut == "CUT", "a clean end would look like success"
            _answers_again(client)
        finally:
            over.set()
            asking.join()
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


def test_a_client_that_goes_away_frees_its_slot(local_fleet: LocalFleet) -> None:
    _until_rows(local_fleet, 0)
    before = local_fleet.metric("castalia_finished_rows_total", model="qwen", reason="abort")
    with local_fleet.http() as client, client.stream("POST", "/v1/completions", json=body("qwen", LONG)) as response:
        received = events(response)
        assert "error" not in json.loads(next(received))
        assert local_fleet.metric("castalia_running_rows", model="qwen") == 1
    _until_rows(local_fleet, 0)
    aborted = local_fleet.metric("castalia_finished_rows_total", model="qwen", reason="abort") - before
    assert aborted == 1, "it ran to its end instead"


def test_a_client_that_goes_away_before_a_whole_answer_frees_its_slot(local_fleet: LocalFleet) -> None:
    _until_rows(local_fleet, 0)
    before = local_fleet.metric("castalia_finished_rows_total", model="qwen", reason="abort")
    with local_fleet.http() as client:
        asking = threading.Thread(target=_ask_and_leave, args=(client,))
        asking.start()
        _until_rows(local_fleet, 1)
        asking.join()
    _until_rows(local_fleet, 0)
    aborted = local_fleet.metric("castalia_finished_rows_total", model="qwen", reason="abort") - before
    assert aborted == 1, "it ran to its end instead"


def _ask_and_leave(client: httpx.Client) -> None:
    try:
        client.post("/v1/completions", json=body("qwen", LONG, stream=False), timeout=1)
    except httpx.ReadTimeout:
        return
    raise AssertionError("the answer was there before the client could leave")


def _until_rows(local_fleet: LocalFleet, count: int) -> None:
    deadline = time.monotonic() + RECOVERY_S
    while local_fleet.metric("castalia_running_rows", model="qwen") != count:
        assert time.monotonic() < deadline
