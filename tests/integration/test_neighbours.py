"""Whatever else a fleet is asked for, a request that runs beside it is answered as if it were alone."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.bad_input import CHAT, COMPLETIONS, JSON, BadRequest, bad_requests
from tests.integration.background import BackgroundStream
from tests.integration.conftest import CONTEXT, LocalFleet

MODEL = "llama"
TOKENS = 1500  # seconds of work
SEEDED = {"model": MODEL, "prompt": "The spring", "seed": 11, "max_tokens": TOKENS, "ignore_eos": True}
LONG_PROMPT = [3 + i % 400 for i in range(2000)]


@pytest.fixture(scope="module")
def alone(local_fleet: LocalFleet) -> str:
    """What the stream says when nobody is beside it."""
    return BackgroundStream(local_fleet, **SEEDED).text()


def requests(model: str) -> list[BadRequest]:
    """The gateway's refusals, and those that need a real model or a real server."""
    large = b'{"model": "' + b"x" * 10_000_000 + b'"}'
    long = json.dumps({"model": model, "prompt": "a" * CONTEXT * 8, "max_tokens": 1}).encode()
    return [
        *bad_requests(model),
        BadRequest("ten megabytes", CHAT, large, "request_too_large", words="at most 4194304", status=413),
        BadRequest("a prompt over the context", COMPLETIONS, long, "context_length_exceeded", "prompt", str(CONTEXT)),
    ]


def test_every_bad_request_is_refused_as_documented_and_harms_no_stream_beside_it(
    local_fleet: LocalFleet, alone: str
) -> None:
    stream = BackgroundStream(local_fleet, **SEEDED)
    with local_fleet.http() as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda bad: (bad, _answer(client, bad)), requests(MODEL)))
    beside = stream.running
    for bad, (status, error) in answers:
        assert (status, error["code"], error["param"]) == (bad.status, bad.code, bad.param), bad.name
        assert bad.words in error["message"], bad.name
    assert stream.text() == alone
    assert beside, "the stream ended first, so the test proves nothing"


def _answer(client: httpx.Client, bad: BadRequest) -> tuple[int, dict[str, Any]]:
    response = client.request(bad.method, bad.path, content=bad.content, headers=dict(bad.headers))
    return response.status_code, response.json()["error"]


def test_a_prompt_of_two_thousand_tokens_is_read_while_a_stream_runs_on_unchanged(
    local_fleet: LocalFleet, alone: str
) -> None:
    stream = BackgroundStream(local_fleet, **SEEDED)
    body = {"model": MODEL, "prompt": LONG_PROMPT, "max_tokens": 1}
    with local_fleet.http() as client:
        answer = client.post(COMPLETIONS, json=body, headers=JSON).raise_for_status().json()
    beside = stream.running
    assert answer["usage"]["prompt_tokens"] == len(LONG_PROMPT)
    assert stream.text() == alone
    assert beside, "the stream ended first, so the test proves nothing"
