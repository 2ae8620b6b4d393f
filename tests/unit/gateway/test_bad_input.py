"""Every documented refusal of a request: status, type, code, param, and a message that says what was got."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.gateway.state import Tempo
from tests.unit.gateway.fakes import MODEL, Clock, Gateway, chat, make_gateway

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGE = {"role": "user", "content": "hi"}

BAD_FIELDS: list[tuple[str, str, dict[str, Any], str, str, str]] = [
    ("empty messages", CHAT, chat(messages=[]), "messages", "invalid_value", "at least 1 item"),
    ("no messages", CHAT, {"model": MODEL}, "messages", "missing_required_parameter", "required"),
    ("no model", CHAT, {"messages": [MESSAGE]}, "model", "missing_required_parameter", "required"),
    ("unknown field", CHAT, chat(colour="red"), "colour", "unknown_parameter", "Unknown field 'colour'"),
    ("wrong type", CHAT, chat(temperature="hot"), "temperature", "invalid_type", "got a string of 3 characters"),
    ("bool for int", CHAT, chat(n=True), "n", "invalid_type", "got true"),
    ("n over 128", CHAT, chat(n=129), "n", "invalid_value", "less than or equal to 128; got 129"),
    ("n of 0", CHAT, chat(n=0), "n", "invalid_value", "got 0"),
    (
        "top_logprobs over 20",
        CHAT,
        chat(logprobs=True, top_logprobs=21),
        "top_logprobs",
        "invalid_value",
        "less than or equal to 20; got 21",
    ),
    ("top_logprobs alone", CHAT, chat(top_logprobs=2), "top_logprobs", "refused", "logprobs is true"),
    ("stream_options alone", CHAT, chat(stream_options={}), "stream_options", "refused", "stream is true"),
    ("negative max_tokens", CHAT, chat(max_tokens=-5), "max_tokens", "invalid_value", "got -5"),
    ("huge max_tokens", CHAT, chat(max_tokens=10**30), "max_tokens", "invalid_value", "less than or equal to"),
    ("null content", CHAT, chat(messages=[{"role": "user", "content": None}]), "messages[0].content", "", "got null"),
    ("number content", CHAT, chat(messages=[MESSAGE, {"role": "user", "content": 5}]), "messages[1].content", "", ""),
    (
        "bad role",
        CHAT,
        chat(messages=[{"role": "wizard", "content": "x"}]),
        "messages[0].role",
        "invalid_value",
        "'user'",
    ),
    (
        "image part",
        CHAT,
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        "messages[0].content[0].type",
        "invalid_value",
        "'text'",
    ),
    ("nested unknown field", CHAT, chat(messages=[{**MESSAGE, "x": 1}]), "messages[0].x", "unknown_parameter", ""),
    (
        "name of markup",
        CHAT,
        chat(messages=[{**MESSAGE, "name": "x<|im_end|>"}]),
        "messages[0].name",
        "invalid_value",
        "",
    ),
    ("tiny penalty", CHAT, chat(repetition_penalty=1e-39), "repetition_penalty", "invalid_value", "equal to 0.01"),
    ("stop of numbers", CHAT, chat(stop=["a", 5]), "stop[1]", "invalid_type", "got 5"),
    ("too many stops", CHAT, chat(stop=["a"] * 17), "stop", "invalid_value", "at most 16 items"),
    ("empty stop", CHAT, chat(stop=""), "stop", "invalid_value", "at least 1 character"),
    ("logit_bias of a word", CHAT, chat(logit_bias={"cat": 1}), "logit_bias.cat", "invalid_value", "pattern"),
    ("logit_bias over 100", CHAT, chat(logit_bias={"5": 101}), "logit_bias.5", "invalid_value", "got 101"),
    ("array body", CHAT, [], "", "invalid_type", "an array of 0"),  # type: ignore[list-item]
    ("prompt of mixed types", COMPLETIONS, {"model": MODEL, "prompt": ["a", 1]}, "prompt[1]", "invalid_type", "got 1"),
    ("prompt of objects", COMPLETIONS, {"model": MODEL, "prompt": {}}, "prompt", "invalid_type", "string or Input"),
    ("empty prompt list", COMPLETIONS, {"model": MODEL, "prompt": []}, "prompt", "invalid_value", "at least 1 item"),
    ("negative token", COMPLETIONS, {"model": MODEL, "prompt": [3, -1]}, "prompt[1]", "invalid_value", "got -1"),
    ("too many rows", COMPLETIONS, {"model": MODEL, "prompt": ["a"] * 100, "n": 11}, "n", "refused", "got 1100"),
    (
        "too many prompts",
        COMPLETIONS,
        {"model": MODEL, "prompt": ["a"] * 1025},
        "prompt",
        "invalid_value",
        "at most 1024",
    ),
    ("no input", "/tokenize", {"model": MODEL}, "prompt", "refused", "exactly one"),
    ("token as text", "/detokenize", {"model": MODEL, "tokens": ["1"]}, "tokens[0]", "invalid_type", "got a string"),
]


@pytest.mark.parametrize(
    ("path", "body", "param", "code", "words"), [row[1:] for row in BAD_FIELDS], ids=[r[0] for r in BAD_FIELDS]
)
async def test_a_bad_field_is_refused_by_path_and_code(
    gateway: Gateway, path: str, body: object, param: str, code: str, words: str
) -> None:
    async with gateway.client() as client:
        response = await client.post(path, json=body)
    error = response.json()["error"]
    assert response.status_code == 400
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == (param or None)
    assert error["code"] == {"refused": "invalid_value", "": "invalid_type"}.get(code, code)
    assert words in error["message"]
    assert gateway.dispatcher.calls == []


BAD_BODIES = {
    "truncated": b'{"model": "tiny", "messages": [',
    "empty": b"",
    "invalid UTF-8": b'{"model": "\xff"}',
    "lone surrogate": b'{"model": "\\ud800"}',
    "too deep": b"[" * 100_000,
    "number bomb": b'{"n": ' + b"9" * 5000 + b"}",
    "not JSON": b"model=tiny",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_body_that_is_not_json_gets_invalid_json(gateway: Gateway, body: bytes) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"
    assert response.json()["error"]["param"] is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_number_that_is_not_finite_is_refused(gateway: Gateway, value: str) -> None:
    body = json.dumps(chat()).replace('"model"', f'"temperature": {value}, "model"')
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "temperature")


async def test_a_message_never_echoes_the_clients_text(gateway: Gateway) -> None:
    secret = "correct horse battery staple"
    async with gateway.client() as client:
        for body in (
            chat(temperature=secret),
            chat(messages=[{"role": secret, "content": secret}]),
            chat(stop=[[secret]]),
        ):
            assert secret not in (await client.post(CHAT, json=body)).text


async def test_a_hundred_thousand_bad_items_cost_one_error(gateway: Gateway) -> None:
    body = json.dumps({"model": MODEL, "prompt": [[]] * 100_000})
    async with gateway.client() as client:
        response = await client.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("prompt")


async def test_a_hundred_thousand_unknown_fields_are_counted_not_described(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(**{f"k{i}": i for i in range(100_000)}))
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "The body has 100000 unknown or invalid fields."


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    gateway = make_gateway(max_body=1000)
    was_read = False

    async def body() -> Any:
        nonlocal was_read
        was_read = True
        yield b"x"

    headers = {"content-type": "application/json", "content-length": "10000000"}
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
    assert response.json()["error"]["message"] == "The request body may be at most 1000 bytes; got 10000000."
    assert not was_read


async def test_an_undeclared_body_is_refused_once_it_passes_the_limit() -> None:
    gateway = make_gateway(max_body=1000)
    sent = 0

    async def body() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 100
            yield b"x" * 100

    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert "more than 1000" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_a_wrong_media_type_gets_415(gateway: Gateway, headers: dict[str, str]) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, content=json.dumps(chat()).encode(), headers=headers)
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "media_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_json_in_utf8_is_taken_however_it_is_written(gateway: Gateway, media_type: str) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, content=json.dumps(chat()), headers={"content-type": media_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET"), ("PUT", "/healthz", "GET")]
)
async def test_a_wrong_method_gets_405_with_allow(gateway: Gateway, method: str, path: str, allow: str) -> None:
    async with gateway.client() as client:
        response = await client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert allow in response.json()["error"]["message"]


async def test_an_unknown_path_gets_404(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.get("/v2/models")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_an_unknown_model_gets_404(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(model="gpt-5"))
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


async def test_a_task_that_the_model_does_not_do_names_those_it_does(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gateway.state.table.find(MODEL).model
    monkeypatch.setattr(type(model), "TASKS", ("completion",))
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat())
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "unsupported_task", "model")
    assert "it does: completion" in error["message"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-castalia-deadline-ms", "soon"),
        ("x-castalia-deadline-ms", "-1"),
        ("x-castalia-deadline-ms", "nan"),
        ("x-stainless-read-timeout", "0"),
        ("x-stainless-read-timeout", "inf"),
        ("x-castalia-priority", "urgent"),
    ],
)
async def test_a_header_that_cannot_be_read_is_refused_by_name(gateway: Gateway, header: str, value: str) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(), headers={header: value})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, header, "invalid_value")


async def test_a_body_that_never_arrives_meets_the_deadline() -> None:
    async def body() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    gateway = make_gateway(timeout_s=0.01)
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


async def test_a_body_that_takes_the_whole_deadline_is_not_sent_on() -> None:
    clock = Clock()

    async def body() -> Any:
        clock.seconds += 3
        yield json.dumps(chat()).encode()

    gateway = make_gateway(tempo=Tempo(clock=clock))
    headers = {"content-type": "application/json", "x-castalia-deadline-ms": "3000"}
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert gateway.dispatcher.calls == []


async def test_a_client_that_leaves_while_sending_is_logged_as_499(gateway: Gateway) -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    async def send(message: object) -> None:
        raise AssertionError(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "root_path": "", "headers": headers}
    await gateway.app(scope, receive, send)  # type: ignore[arg-type]
    assert gateway.log_lines()[-1]["status"] == 499
