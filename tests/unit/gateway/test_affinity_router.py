"""Which replica a call meets. Ray Serve's own classes are real; replicas are names and queue lengths."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, RequestMetadata
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest

from services.affinity_router import SLACK, AffinityRouter, ranked
from services.app import REQUEST_ROUTER
from shared.calls import Call
from shared.schemas.text import DetokenizeRequest

DEPLOYMENT = DeploymentID("Replica", "chat")
KEYS = [f"conversation {i}" for i in range(300)]


def free(*replicas: str) -> dict[str, int]:
    return dict.fromkeys(replicas, 0)


def test_a_key_keeps_its_replica_and_keys_fall_evenly() -> None:
    firsts = Counter(ranked(key, free("a", "b", "c"))[0] for key in KEYS)
    assert [ranked(key, free("c", "a", "b")) for key in KEYS] == [ranked(key, free("a", "b", "c")) for key in KEYS]
    assert min(firsts.values()) > 70


def test_when_a_replica_comes_or_goes_only_what_belongs_to_it_moves() -> None:
    for key in KEYS:
        before, after = ranked(key, free("a", "b", "c"))[0], ranked(key, free("a", "b"))[0]
        assert before in (after, "c")


def test_a_replica_that_is_much_busier_than_the_least_busy_is_spared() -> None:
    key = KEYS[0]
    own, second, _ = ranked(key, free("a", "b", "c"))
    assert ranked(key, free("a", "b", "c") | {own: SLACK})[0] == own
    assert ranked(key, free("a", "b", "c") | {own: SLACK + 1})[0] == second
    assert ranked(key, {"a": 30, "b": 30, "c": 30} | {own: 60 + SLACK})[0] == own


class Replica:
    """What a router sees of a replica: its id, and how long its queue is."""

    def __init__(self, name: str) -> None:
        self.replica_id = ReplicaID(name, DEPLOYMENT)
        self.max_ongoing_requests = 100
        self.multiplexed_model_ids: set[str] = set()
        self.node_id, self.availability_zone = "node", None

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return 0


@pytest.fixture
async def router(monkeypatch: pytest.MonkeyPatch) -> AffinityRouter:
    """As Ray makes it: out of the pickle that it sends to whoever calls the service."""
    silent = SimpleNamespace(set_default_tags=lambda _: silent, set=lambda *_, **__: None, observe=lambda *_: None)
    for kind in ("Gauge", "Histogram"):
        monkeypatch.setattr(f"ray.util.metrics.{kind}", lambda *_, **__: silent)
    made: Any = RequestRouterConfig(request_router_class=REQUEST_ROUTER).get_request_router_class()
    router: AffinityRouter = made(
        deployment_id=DEPLOYMENT,
        handle_source=DeploymentHandleSource.REPLICA,
        self_node_id="node",
        use_replica_queue_len_cache=True,
        prefer_local_node_routing=False,
    )
    replicas: list[Any] = [Replica(name) for name in ("a", "b", "c")]
    router.update_replicas(replicas)
    await asyncio.sleep(0)
    return router


def pending(number: int, *args: Any) -> PendingRequest:
    metadata = RequestMetadata(request_id=str(number), internal_request_id=str(number))
    return PendingRequest(args=list(args), kwargs={}, metadata=metadata)


def call(affinity: str | None) -> Call:
    body = DetokenizeRequest(model="m", tokens=[])
    return Call(request_id="r", model="m", task="detokenize", body=body, affinity=affinity)


async def route(router: AffinityRouter, *requests: PendingRequest) -> list[str]:
    """Send the requests at once; the replica of each."""
    chosen = await asyncio.gather(*(router._choose_replica_for_request(each) for each in requests))
    return [replica.replica_id.unique_id for replica in chosen]


async def test_calls_that_come_at_once_meet_the_replicas_of_their_own_affinity(router: AffinityRouter) -> None:
    keys = KEYS[:40]
    met = await route(router, *(pending(i, call(key)) for i, key in enumerate(keys * 2)))
    assert met[:40] == met[40:] == [ranked(key, free("a", "b", "c"))[0] for key in keys]


async def test_calls_without_affinity_and_other_methods_meet_any_replica(router: AffinityRouter) -> None:
    met = await route(router, *(pending(i, call(None)) for i in range(60)), *(pending(i) for i in range(60, 80)))
    assert set(met) == {"a", "b", "c"}
