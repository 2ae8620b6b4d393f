"""Routes of models.yaml: aliases, splits, affinity, and how they are listed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.tenants import Tenant
from shared.schemas.common import ModelCard
from tests.unit.gateway.fakes import (
    chat,
    events_of,
    report,
)
from tests.unit.gateway.route_fakes import (
    CHAT,
    TOKENIZE,
    Everybody,
    ask,
    asked,
    fleet,
    gateway_of,
    route,
)


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([route("stable", name="canary")], r"routes\.0\.name: a model is named 'canary' already"),
        ([route("stable"), route("canary")], r"routes\.1\.name: another route is named 'front' already"),
        ([route("stable", "nobody")], r"routes\.0\.targets\.1\.model: 'nobody' is no model"),
        ([route("front")], r"routes\.0\.targets\.0\.model: 'front' is a route"),
        ([route("stable", fallbacks=["nobody"])], r"routes\.0\.fallbacks\.0: 'nobody' is no model"),
        ([route("stable", mirror={"model": "nobody"})], r"routes\.0\.mirror\.model: 'nobody' is no model"),
        ([route("stable", mirror={"model": "stable"})], r"routes\.0\.mirror\.model: 'stable' is a target"),
        ([route("stable", "stable")], r"routes\.0\.targets: named more than once: stable"),
        ([route("stable", fallbacks=["spare", "spare"])], r"routes\.0\.fallbacks: named more than once: spare"),
        ([route("stable", "faces")], r"routes\.0\.targets: there is no task that all of them do"),
        ([route("stable", fallbacks=["faces"])], r"routes\.0\.fallbacks\.0: 'faces' does nothing of what"),
        ([route(("stable", 0))], r"routes\.0\.targets\.0\.weight"),
        ([route("stable", affinity="sticky")], r"routes\.0\.affinity"),
        ([route("stable", mirror={"model": "spare", "share": 1.5})], r"routes\.0\.mirror\.share"),
        ([{"name": "front", "targets": []}], r"routes\.0\.targets"),
    ],
)
def test_a_route_that_cannot_be_meant_is_refused_by_path(routes: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        fleet(*routes)


async def test_an_alias_is_answered_as_the_model_that_it_stands_for() -> None:
    gateway = gateway_of(route("stable"))
    answer = (await ask(gateway)).json()
    chunks = events_of((await ask(gateway, stream=True)).text)
    assert answer["model"] == "stable"
    assert {chunk["model"] for chunk in chunks[:-1]} == {"stable"}
    assert [line["model"] for line in gateway.log_lines()] == ["stable", "stable"]


async def test_an_alias_refuses_what_its_model_does_not_do() -> None:
    async with gateway_of(route("stable")).client() as client:
        response = await client.post("/v1/images/generations", json={"model": "front", "prompt": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_task")
    assert "'front'" in response.json()["error"]["message"]


async def test_a_canary_of_ten_in_a_hundred_gets_its_share() -> None:
    gateway = gateway_of(route(("stable", 90), ("canary", 10)))
    async with gateway.client() as client:
        for _ in range(400):
            response = await client.post(TOKENIZE, json={"model": "front", "prompt": "a"})
            assert response.status_code == 200
    share = Counter(asked(gateway))
    # 99.99 % of binomial(400, 0.1) lie within 3.9 standard deviations of its mean.
    assert share["stable"] + share["canary"] == 400
    assert abs(share["canary"] - 40) < 3.9 * (400 * 0.1 * 0.9) ** 0.5


async def test_sessions_stay_on_their_side_of_a_canary_and_are_split_by_its_weights() -> None:
    gateway = gateway_of(route(("stable", 90), ("canary", 10), affinity="session"))
    sides: dict[str, set[str]] = {}
    async with gateway.client() as client:
        for session in (f"s{i}" for i in range(300)):
            for _ in range(2):
                headers = {"x-castalia-session": session}
                response = await client.post(TOKENIZE, json={"model": "front", "prompt": "a"}, headers=headers)
                sides.setdefault(session, set()).add(response.json()["model"])
    assert all(len(side) == 1 for side in sides.values())
    assert abs(sum("canary" in side for side in sides.values()) - 30) < 3.9 * (300 * 0.1 * 0.9) ** 0.5


async def test_more_weight_for_a_canary_moves_no_session_back() -> None:
    async def side(canary: float, session: str) -> str:
        gateway = gateway_of(route(("stable", 100 - canary), ("canary", canary), affinity="session"))
        async with gateway.client() as client:
            headers = {"x-castalia-session": session}
            answer = await client.post(TOKENIZE, json={"model": "front", "prompt": "a"}, headers=headers)
        return str(answer.json()["model"])

    for session in (f"s{i}" for i in range(30)):
        if await side(20, session) == "canary":
            assert await side(60, session) == "canary"


async def affinity_of(kind: str, *requests: dict[str, Any], tenant: str = "default") -> list[str | None]:
    """What each request, given as `json` and `headers`, is to share with others."""
    gateway = gateway_of(route("stable", affinity=kind))
    gateway.state.keys = Everybody(Tenant(tenant))
    async with gateway.client() as client:
        for request in requests:
            assert (await client.post(CHAT, **request)).status_code == 200
    return [call.affinity for _, call in gateway.dispatcher.calls]


def turn(*contents: str, system: str = "", **fields: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return {"json": {"model": "front", "messages": messages, **fields}}


async def test_a_conversation_keeps_its_affinity_by_header_by_key_and_by_how_it_begins() -> None:
    header = {"headers": {"x-castalia-session": "s"}}
    first, again, other = await affinity_of(
        "session",
        turn("a") | header,
        turn("b", "c", "d") | header,
        turn("a") | {"headers": {"x-castalia-session": "t"}},
    )
    assert first == again != other
    first, again, other = await affinity_of("session", turn("a", user="u"), turn("b", user="u"), turn("a", user="v"))
    assert first == again != other
    first, again = await affinity_of(
        "session", turn("a", prompt_cache_key="k", user="u"), turn("b", prompt_cache_key="k")
    )
    assert first == again is not None
    first, again, other = await affinity_of("prefix", turn("a"), turn("a", "b", "c"), turn("x"))
    assert first == again != other
    system = "You are a helpful owl. " * 20
    first, again, other = await affinity_of(
        "prefix", turn("a", system=system), turn("b", system=system), turn("a", system=system[1:])
    )
    assert first == again != other


async def test_requests_without_a_session_or_a_route_with_affinity_belong_to_none() -> None:
    assert await affinity_of("session", turn("a")) == [None]
    assert await affinity_of("none", turn("a", user="u") | {"headers": {"x-castalia-session": "s"}}) == [None]


async def test_tenants_share_no_affinity_and_no_text_is_kept() -> None:
    (mine,), (theirs,) = [await affinity_of("prefix", turn("secret"), tenant=name) for name in ("me", "them")]
    assert mine is not None
    assert mine != theirs
    assert "secret" not in mine


async def test_a_session_with_too_long_a_name_is_refused() -> None:
    gateway = gateway_of(route("stable", affinity="session"))
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(model="front"), headers={"x-castalia-session": "s" * 257})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "x-castalia-session")
    assert not gateway.dispatcher.calls


async def test_a_route_is_listed_with_what_all_its_targets_can() -> None:
    gateway = gateway_of(route("stable", "canary", fallbacks=["spare"]), stable="ready", canary="loading")
    small = report("canary", service="canary", state="ready")
    (entry,) = small.models
    gateway.dispatcher.known["canary"] = [replace(small, models=(replace(entry, limits={"context_length": 32.0}),))]
    async with gateway.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        one = ModelCard.model_validate((await client.get("/v1/models/front")).json())
    assert [card["id"] for card in listed] == ["stable", "canary", "spare", "faces", "front"]
    assert listed[-1] == one.model_dump()
    assert one.targets == ["stable", "canary"]
    assert one.tasks == ["chat", "completion", "tokenize", "detokenize"]
    assert (one.family, one.license, one.state) == ("transformer", "MIT, unknown", "ready")
    assert one.limits == {"context_length": 32.0}
    assert ModelCard.model_validate(listed[0]).targets == []


async def test_a_tenant_sees_and_asks_for_the_names_that_it_may_use_and_no_others() -> None:
    gateway = gateway_of(route("stable"))
    gateway.state.keys = Everybody(Tenant("t", models=frozenset({"front"})))
    async with gateway.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [card["id"] for card in listed] == ["front"]
        assert (await client.get("/v1/models/stable")).status_code == 404
        assert (await client.post(CHAT, json=chat(model="front"))).json()["model"] == "stable"
        assert (await client.post(CHAT, json=chat(model="stable"))).status_code == 403


async def test_a_route_keeps_its_creation_time_over_reconfigurations() -> None:
    gateway = gateway_of(route("stable"))
    before = gateway.state.table
    gateway.state.configure(fleet(route("stable")))
    assert gateway.state.table == before
