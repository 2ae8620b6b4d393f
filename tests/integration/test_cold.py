"""A service at rest: no replica runs until somebody asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.integration.conftest import LocalFleet

BODY = {"model": "sleeper", "prompt": "a", "max_tokens": 4}


def test_a_service_at_rest_refuses_who_cannot_wait_and_wakes_for_who_can(local_fleet: LocalFleet) -> None:
    assert not local_fleet.processes("ray::ServeReplica:third"), "it runs already, so the test proves nothing"
    with local_fleet.http() as client, ThreadPoolExecutor(1) as pool:
        assert client.get("/v1/models/sleeper").json()["state"] == "cold"
        refused = client.post("/v1/completions", json=BODY, headers={"x-castalia-deadline-ms": "400"})
        plain = pool.submit(client.post, "/v1/completions", json=BODY)
        with client.stream("POST", "/v1/completions", json={**BODY, "stream": True}) as held:
            lines = [line for line in held.iter_lines() if line]
    assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert refused.json()["error"]["code"] == "model_loading"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert held.status_code == httpx.codes.OK
    assert lines[0] == ": loading", "a client that waits is told why"
    assert lines[-1] == "data: [DONE]"
    assert plain.result().status_code == httpx.codes.OK, (
        "a plain request keeps its true status, however long it is held"
    )
    assert plain.result().json()["usage"]["completion_tokens"] == 4
    assert local_fleet.replica("third").is_running()
