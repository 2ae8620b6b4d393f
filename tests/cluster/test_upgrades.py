"""What a change of serveConfigV2 does to whoever is being answered: people who chat, and streams of a minute."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.fleet import START_S, ClusterFleet, application
from tests.cluster.kuberay import wait_until
from tests.cluster.locusts import Chatting
from tests.cluster.probes import PacedStream
from tests.cluster.report import Figures

SCENARIO = "Rolling updates under load"
STREAM_S = 60.0
EVERY_S = 10.0  # a new stream begins
Change = Callable[[dict[str, Any]], None]


def reserve_more(name: str) -> Change:
    """What a process reserves: it takes another process."""

    def change(config: dict[str, Any]) -> None:
        application(config, name)["ray_actor_options"]["num_cpus"] += 0.01

    return change


@pytest.mark.parametrize("surge", [0, 100], ids=["stop first", "start first"])
def test_replaced_models_fail_no_request_and_cut_no_stream(fleet: ClusterFleet, figures: Figures, surge: int) -> None:
    def change(config: dict[str, Any]) -> None:
        for name in ("chat", "first"):
            application(config, name)["max_surge_percent"] = surge
            reserve_more(name)(config)

    before = {name: ids(fleet, name) for name in ("chat", "first")}
    _roll(fleet, figures, f"models, max_surge_percent {surge}", change)
    assert all(not ids(fleet, name) & before[name] for name in before), "no new process has taken over"


def test_a_replaced_gateway_fails_no_request_and_cuts_no_stream(fleet: ClusterFleet, figures: Figures) -> None:
    before = ids(fleet, "gateway", "Gateway")
    _roll(fleet, figures, "both gateways", reserve_more("gateway"))
    assert not ids(fleet, "gateway", "Gateway") & before, "no new process has taken over"


def test_a_model_changed_in_place_fails_no_request_and_cuts_no_stream(fleet: ClusterFleet, figures: Figures) -> None:
    def change(config: dict[str, Any]) -> None:
        entries = [application(config, "first")["user_config"]]
        entries += application(config, "gateway")["user_config"]["services"]
        for model in (model for each in entries if each["name"] == "first" for model in each["models"]):
            model["options"] = {"version": 200}

    before = ids(fleet, "first")
    _roll(fleet, figures, "a model's options, in place", change)
    assert ids(fleet, "first") == before, "it took another process"


def _roll(fleet: ClusterFleet, figures: Figures, what: str, change: Change) -> None:
    """Change a configuration under load; every stream that has begun before, during and after it must end well."""
    config = copy.deepcopy(fleet.config)
    change(config)
    streams: list[PacedStream] = []
    with Chatting(fleet, "assistant") as chatting:
        streams += [PacedStream(fleet, "first", STREAM_S).begin() for _ in range(2)]
        wait_until("the streams run", lambda: all(each.begun for each in streams), within_s=60)
        began = time.monotonic()
        fleet.deploy(config)
        done_s: float | None = None
        while done_s is None or len(streams) < 5:
            assert time.monotonic() - began < 2 * START_S, f"{what}: not done"
            time.sleep(EVERY_S)
            streams.append(PacedStream(fleet, "first", STREAM_S).begin())
            if done_s is None and fleet.is_running():
                done_s = time.monotonic() - began
        for stream in streams:
            stream.join()
    ends = [stream.end for stream in streams]
    figures.add(SCENARIO, f"{what}: until all is as asked (s)", done_s)
    figures.add(
        SCENARIO, f"{what}: streams of 60 s that ended whole", f"{ends.count('completed')} of {len(ends)}", "all"
    )
    figures.add(SCENARIO, f"{what}: a stream's longest (s)", max(stream.took_s for stream in streams))
    chats = chatting.chats
    figures.add(
        SCENARIO, f"{what}: chats by Locust, of which failed", f"{chats['num_requests']}, {chatting.failures}", "0"
    )
    figures.add(SCENARIO, f"{what}: the longest chat (s)", chats["max_response_time"] / 1e3)
    assert set(ends) == {"completed"}, [(stream.end, stream.why) for stream in streams]
    assert chats["num_requests"] > 10
    assert chatting.failures == 0, chatting.told


def ids(fleet: ClusterFleet, name: str, deployment: str = "Replica") -> set[str]:
    return {replica["replica_id"] for replica in fleet.replicas(name, deployment)}
