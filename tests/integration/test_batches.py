"""A batch outlives the gateway that runs it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.conftest import LocalFleet, Tell

GATEWAY = "ray::ServeReplica:gateway:Gateway"
COMPLETIONS = "/v1/completions"
TOKENS = 150  # a line
SINGLE = 7  # of a request outside of the batch, whose usage must outlive the gateway as well
PATIENCE_S = 120.0
POLL_S = 0.05


@pytest.mark.alone
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_a_gateway_that_is_killed_in_the_middle_of_a_batch_leaves_one_result_and_one_charge_a_line(
    local_fleet: LocalFleet, tell: Tell, count: int
) -> None:
    lines = [_line(number) for number in range(count)]
    with local_fleet.http() as client:
        before = _used(client)
        _ask(client, max_tokens=SINGLE)
        time.sleep(local_fleet.settings.usage_flush_s + 0.5)  # from here on no crash may lose it
        batch_id = _begin(client, lines)
        done = _until(client, batch_id, lambda batch: batch["request_counts"]["completed"] >= count // 8)
        (gateway,) = local_fleet.processes(GATEWAY)
        gateway.kill()
        killed = time.monotonic()
        assert done["status"] == "in_progress", "it ended too soon to show anything"
        ended = _until(client, batch_id, lambda batch: batch["status"] == "completed")
        tell(
            f"the gateway was killed after {done['request_counts']['completed']} of {count} lines; "
            f"the batch ended {time.monotonic() - killed:.1f} s later"
        )
        assert ended["request_counts"] == {"total": count, "completed": count, "failed": 0}
        assert ended["error_file_id"] is None
        output = client.get(f"/v1/files/{ended['output_file_id']}/content").raise_for_status().text
        results = [json.loads(line) for line in output.splitlines()]
        assert [result["custom_id"] for result in results] == [line["custom_id"] for line in lines]
        assert {result["response"]["body"]["usage"]["completion_tokens"] for result in results} == {TOKENS}
        assert _used(client) - before == Counter(requests=count + 1, completion_tokens=count * TOKENS + SINGLE)
    assert gateway.pid not in {process.pid for process in local_fleet.processes(GATEWAY)}


def _ask(client: httpx.Client, *, max_tokens: int) -> None:
    body = {"model": "llama", "prompt": "alone", "max_tokens": max_tokens, "ignore_eos": True}
    client.post(COMPLETIONS, json=body).raise_for_status()


def _line(number: int) -> dict[str, Any]:
    body = {"model": "llama", "prompt": f"line {number}", "max_tokens": TOKENS, "ignore_eos": True, "seed": number}
    return {"custom_id": f"line-{number}", "method": "POST", "url": COMPLETIONS, "body": body}


def _begin(client: httpx.Client, lines: list[dict[str, Any]]) -> str:
    data = "\n".join(json.dumps(line) for line in lines).encode()
    form = {"data": {"purpose": "batch"}, "files": {"file": ("lines.jsonl", data)}}
    file = client.post("/v1/files", **form).raise_for_status().json()
    request = {"input_file_id": file["id"], "endpoint": COMPLETIONS, "completion_window": "24h"}
    return str(client.post("/v1/batches", json=request).raise_for_status().json()["id"])


def _until(client: httpx.Client, batch_id: str, is_there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The batch, when it is where it should be. A gateway that is away meanwhile is waited for."""
    deadline = time.monotonic() + PATIENCE_S
    seen: object = None
    while time.monotonic() < deadline:
        try:
            answer = client.get(f"/v1/batches/{batch_id}")
        except httpx.HTTPError as error:
            seen = error
        else:
            seen = answer.text
            if answer.is_success and is_there(answer.json()):
                return dict(answer.json())
        time.sleep(POLL_S)
    raise AssertionError(f"not there after {PATIENCE_S:g} s: {seen}")


def _used(client: httpx.Client) -> Counter[str]:
    """What the store says of the model, after this gateway has written what it held."""
    total = client.get("/v1/usage", params={"model": "llama"}).raise_for_status().json()["total"]
    return Counter({name: total[name] for name in ("requests", "completion_tokens")})
