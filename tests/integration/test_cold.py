"""A service at rest: no replica runs until somebody asks."""

from __future__ import annotations

import httpx

from tests.integration.conftest import LocalFleet


def test_a_service_at_rest_refuses_who_cannot_wait_and_wakes_for_who_can(local_fleet: LocalFleet) -> None:
    assert not local_fleet.processes("ray::ServeReplica:third"), "it runs already, so the test proves nothing"
    body = {"model": "sleeper", "prompt": "a", "max_tokens": 4}
    with local_fleet.http() as client:
        assert client.get("/v1/models/sleeper").json()["state"] == "cold"
        refused = client.post("/v1/completions", json=body, headers={"x-castalia-deadline-ms": "400"})
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as held:
            lines = [line for line in held.iter_lines() if line]
    assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert refused.json()["error"]["code"] == "model_loading"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert held.status_code == httpx.codes.OK
    assert lines[0] == ": loading", "a client that waits is told why"
    assert lines[-1] == "data: [DONE]"
    assert local_fleet.replica("third").is_running()
