"""What models.yaml may say of a remote server, and what a request there can cost."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from services.app import serve_config
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.config.text import CALL_TOKENS, MESSAGE_TOKENS, TOOLS_TOKENS
from shared.config.upstream import UNSTATED_TOKENS
from shared.schemas.text import DetokenizeRequest
from tests.unit.gateway.fakes import FLEET
from tests.unit.gateway.upstreams.remote import chat, completion, entry, service


@pytest.mark.parametrize(
    "url",
    [
        "ftp://far.example/v1",
        "far.example/v1",
        "https:///v1",
        "https://user@far.example/v1",
        "https://user:word@far.example/v1",
        "https://far.example/v1?key=word",
        "https://far.example/v1#word",
        "https://far.example:70000/v1",
        "file:///etc/passwd",
        "https://far .example/v1",
        "https://far.example/v1\n",
        "http://1.2.3.999/v1",
        "http://1.2.3/v1",
        "http://[v1.x]/v1",
        "http://[1:2]/v1",
        "http://exämple_x.com/v1",
        "http://xn--a/v1",
        "http://a..b/v1",
        f"http://{'a' * 64}/v1",
        "http://" + "a." * 130 + "b/v1",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        service(url=url)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.1"),
        ("http://[::1]:8000/v1", "::1"),
        ("https://Far.example./v1/", "far.example."),
        ("http://my_vllm:8000", "my_vllm"),
        ("https://xn--exmple-cua.com/v1", "exämple.com"),
        ("http://10-0-0-1.pod.cluster.local/a@b/v1", "10-0-0-1.pod.cluster.local"),
    ],
)
def test_an_address_that_is_taken_is_one_that_can_be_reached(url: str, host: str) -> None:
    assert httpx.URL(service(url=url).url).host == host


def test_what_was_written_in_the_wrong_place_is_in_no_message() -> None:
    with pytest.raises(ValidationError) as refused:
        service(url="https://user:sesame@far.example/v1", secret="open-sesame")
    assert "sesame" not in str(refused.value)
    assert "secret" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"secret": "sk-1"}, "secret"),
        ({"secret_env": "sk-1234"}, "secret_env"),
        ({"replicas": {"min": 1}}, "replicas"),
        ({"models": []}, "models"),
        ({"models": [{"id": "a", "remote_id": "b", "tasks": ["chat", "chat"]}]}, "twice"),
        ({"models": [{"id": "a", "remote_id": "b", "tasks": ["sing"]}]}, "tasks"),
        ({"models": [{"id": "a", "remote_id": "b", "source": "file:///m"}]}, "source"),
    ],
)
def test_a_mistake_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        service(**change)


def test_no_application_is_bound_for_it_and_the_gateway_hears_of_it() -> None:
    entries = [FLEET.services[0].model_dump(mode="json", exclude_unset=True), entry()]
    config = serve_config(FleetConfig.model_validate({"services": entries}), Settings())
    assert [app["name"] for app in config["applications"]] == ["chat", "gateway"]
    told = config["applications"][-1]["deployments"][0]["user_config"]["services"]
    assert told == entries


def test_a_fleet_may_have_nothing_but_remote_servers() -> None:
    config = serve_config(FleetConfig.model_validate({"services": [entry()]}), Settings())
    assert [app["name"] for app in config["applications"]] == ["gateway"]


TOOLS = [{"type": "function", "function": {"name": "f"}}]
TOLD = json.dumps(TOOLS, indent=4)


def cost(body: BaseModel, context_length: int | None = None) -> float:
    model = {"id": "near", "remote_id": "far", "context_length": context_length}
    return service(models=[model]).models[0].cost_bound(body, {})


@pytest.mark.parametrize(
    ("body", "context_length", "expected"),
    [
        (chat(max_tokens=50), None, 2 + MESSAGE_TOKENS + 50),
        (chat(max_completion_tokens=9, max_tokens=50, n=3), None, 2 + MESSAGE_TOKENS + 27),
        (chat(), None, 2 + MESSAGE_TOKENS + UNSTATED_TOKENS),
        (chat(), 100, 2 + MESSAGE_TOKENS + 100),
        (chat(max_tokens=5000, n=2), 100, 2 + MESSAGE_TOKENS + 200),
        (chat(max_tokens=5, tools=TOOLS), None, 2 + MESSAGE_TOKENS + TOOLS_TOKENS + CALL_TOKENS + len(TOLD) + 5),
        (chat(messages=[{"role": "user", "content": "☃" * 100}]), 64, 64 + 64),
        (completion(), None, 4 + 16),
        (completion(prompt=["ab", "☃"], n=2, max_tokens=10), None, 5 + 40),
        (completion(prompt=[[1, 2, 3], [4]], max_tokens=10), None, 4 + 20),
    ],
)
def test_a_request_costs_at_most_what_it_reads_and_writes(
    body: BaseModel, context_length: int | None, expected: float
) -> None:
    assert cost(body, context_length) == expected


def test_a_request_that_no_remote_server_takes_has_no_cost() -> None:
    with pytest.raises(TypeError, match="DetokenizeRequest"):
        cost(DetokenizeRequest(model="near", tokens=[1]))
