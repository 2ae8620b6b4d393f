"""Every documented refusal of a request: status, type, code, param, and a message that says what was got."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from services.gateway.bodies import parse
from services.gateway.validation import MAX_DEPTH
from shared.errors import InvalidRequest
from tests.bad_input import CHAT, COMPLETIONS, BadRequest, bad_methods, bad_requests
from tests.unit.gateway.fakes import MODEL, Gateway, chat


@pytest.mark.parametrize("bad", bad_requests(MODEL), ids=lambda bad: bad.name)
async def test_a_bad_request_is_refused_by_status_path_and_code(gateway: Gateway, bad: BadRequest) -> None:
    async with gateway.client() as client:
        response = await client.request(bad.method, bad.path, content=bad.content, headers=dict(bad.headers))
    error = response.json()["error"]
    assert response.status_code == bad.status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert (error["param"], error["code"]) == (bad.param, bad.code)
    assert bad.words in error["message"]
    assert gateway.dispatcher.calls == []


@pytest.mark.parametrize("bad", bad_methods(MODEL), ids=lambda bad: bad.name)
async def test_a_wrong_method_is_answered_with_what_is_allowed(gateway: Gateway, bad: BadRequest) -> None:
    async with gateway.client() as client:
        response = await client.request(bad.method, bad.path)
    assert response.headers["allow"] == bad.words


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


@pytest.mark.parametrize(
    "media_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_json_in_utf8_is_taken_however_it_is_written(gateway: Gateway, media_type: str) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, content=json.dumps(chat()), headers={"content-type": media_type})
    assert response.status_code == 200


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


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a": ', b"}")], ids=["arrays", "objects"])
def test_a_body_may_be_nested_as_deep_as_the_refusal_says_and_no_deeper(opening: bytes, closing: bytes) -> None:
    class Anything(BaseModel):
        it: Any

    def deep(levels: int) -> bytes:
        """The body's own object is one of them."""
        return b'{"it": ' + opening * (levels - 1) + b"0" + closing * (levels - 1) + b"}"

    assert parse(Anything, deep(MAX_DEPTH)).it
    with pytest.raises(InvalidRequest, match=f"at most {MAX_DEPTH} deep"):
        parse(Anything, deep(MAX_DEPTH + 1))
