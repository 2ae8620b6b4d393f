"""The log: one line a request, and nothing that a client wrote."""

from __future__ import annotations

import io
import json

import pytest

from services.gateway.logs import make_log
from tests.unit.gateway.fakes import MODEL, Gateway, chat

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
        gateway.dispatcher.__dict__["stream"] = None  # and not with an unexpected failure either
        await client.post(*bodies[0][:1], json=bodies[0][1])
    assert len(gateway.log_lines()) == 6
    assert SECRET not in gateway.log_text.getvalue()
    assert "Hello" not in gateway.log_text.getvalue()


def test_the_level_filters() -> None:
    stream = io.StringIO()
    log = make_log("WARNING", stream)
    log.info("quiet")
    log.warning("loud", n=1)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["event"], line["n"], line["source"]) == ("loud", 1, "gateway")
