"""The log: one line a request, and nothing that a client wrote."""

from __future__ import annotations

import io
import json
from contextlib import suppress

import httpx
import pytest

from services.gateway.logs import make_log
from shared.tracebacks import where
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import ACCEPTED, MODEL, Gateway, chat, play, text

SECRET = "the owl flies at dusk"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_leaves_one_line_with_its_figures(gateway: Gateway, stream: bool) -> None:
    async with gateway.client() as client:
        response = await client.post("/v1/chat/completions", json=chat(stream=stream))
    (line,) = gateway.log_lines()
    assert line["request_id"] == response.headers["x-request-id"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (line["model"], line["tenant"], line["prompt_tokens"], line["completion_tokens"]) == (MODEL, "default", 5, 4)
    assert line["ms"] >= 0
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


async def test_prompts_and_bodies_are_never_logged(gateway: Gateway) -> None:
    bodies: list[tuple[str, object]] = [
        ("/v1/chat/completions", chat(messages=[{"role": "user", "content": SECRET}])),
        ("/v1/chat/completions", chat(messages=[{"role": SECRET, "content": SECRET}])),
        ("/v1/chat/completions", chat(model=SECRET)),
        ("/v1/completions", {"model": MODEL, "prompt": SECRET, "user": SECRET}),
        ("/tokenize", {"model": MODEL, "prompt": SECRET, SECRET: 1}),
    ]
    async with gateway.client() as client:
        for path, body in bodies:
            await client.post(path, json=body)
    assert len(gateway.log_lines()) == 5
    assert SECRET not in gateway.log_text.getvalue()
    assert "Hello" not in gateway.log_text.getvalue()


@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_unexpected_failure_is_logged_by_type_and_place_not_by_what_it_quotes(
    gateway: Gateway, serve: Serve, stream: bool, has_begun: bool
) -> None:
    cause = ValueError(f"cannot encode {SECRET!r}")
    cause.__cause__ = KeyError(SECRET)
    gateway.dispatcher.default = play(ACCEPTED, text("Hello"), cause) if has_begun else play(cause)
    async with httpx.AsyncClient(base_url=await serve(gateway.app)) as client:
        with suppress(httpx.RemoteProtocolError):  # how a stream that had begun ends
            await client.post("/v1/chat/completions", json=chat(stream=stream))
    (line,) = gateway.log_lines("stream_failed" if stream and has_begun else "request_failed")
    assert line["cause"].startswith("ValueError at ")
    assert line["cause"].endswith(", from KeyError at unknown")
    assert "fakes.py:" in line["cause"]
    assert SECRET not in gateway.log_text.getvalue()


def test_causes_that_go_round_are_told_once() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert where(first) == "ValueError at unknown, from KeyError at unknown"


def test_the_level_filters() -> None:
    stream = io.StringIO()
    log = make_log("WARNING", stream)
    log.info("quiet")
    log.warning("loud", n=1)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["event"], line["n"], line["source"]) == ("loud", 1, "gateway")
