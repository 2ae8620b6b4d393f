"""Replicas and nodes as they are paid for, and the policy asked about a fleet of which a part is simulated."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.planner.autoscaler import MOST_SEEN, Autoscaler
from loadtests.planner.fleet import Fleet
from services.scaling.load import ReplicaLoad
from services.scaling.policy import Memory, Targets, View, decide
from shared.config.base import ReplicaRange
from tests.unit.loadtests.planner.plans import a_service


def a_fleet(running: int = 0, *, drain_s: float = 5, **fields: Any) -> Fleet:
    return Fleet(a_service(**fields), drain_s, running)


NODES: dict[str, Any] = {
    "start_s": 10,
    "resources": {"num_gpus": 1},
    "node": {"devices": 4, "start_s": 100, "idle_s": 60},
}


def test_a_replica_runs_when_it_has_started_and_is_paid_for_from_the_decision() -> None:
    fleet = a_fleet(start_s=40)
    fleet.follow(2, 0)
    assert (fleet.running, fleet.paid, fleet.devices) == (0, 2, 2)
    fleet.settle(39)
    assert fleet.running == 0
    fleet.settle(40)
    assert fleet.running == 2


def test_replicas_that_find_room_on_a_node_do_not_wait_for_a_new_one() -> None:
    fleet = a_fleet(2, **NODES)
    fleet.follow(7, 0)  # two more have room, three wait for a node
    assert (fleet.nodes.total, fleet.devices) == (2, 8)
    fleet.settle(10)
    assert fleet.running == 4
    fleet.settle(109)
    assert fleet.running == 4
    fleet.settle(110)
    assert fleet.running == 7


def test_replicas_that_come_later_use_what_is_left_of_a_node_on_its_way() -> None:
    fleet = a_fleet(4, **NODES)
    fleet.follow(5, 0)
    fleet.settle(50)
    fleet.follow(8, 50)
    assert fleet.nodes.total == 2, "no third node"
    fleet.settle(110)
    assert fleet.running == 8


def test_an_empty_node_goes_after_it_has_been_idle_and_not_while_it_was_needed_meanwhile() -> None:
    fleet = a_fleet(8, drain_s=0, **NODES)
    fleet.follow(1, 0)
    for now in range(0, 60, 10):
        fleet.settle(now)
        assert fleet.nodes.total == 2
    fleet.follow(5, 59)
    fleet.settle(59)
    fleet.settle(61)
    assert fleet.nodes.total == 2
    fleet.follow(1, 70)
    fleet.settle(71)
    fleet.settle(131)
    assert (fleet.nodes.total, fleet.devices) == (1, 4)


def test_fewer_replicas_stop_those_that_start_before_those_that_run_which_drain() -> None:
    fleet = a_fleet(3, start_s=40)
    fleet.follow(5, 0)
    fleet.follow(2, 10)
    assert (fleet.starting, fleet.running, fleet.paid) == ([], 2, 3)
    fleet.settle(15)
    assert fleet.paid == 2


@pytest.mark.parametrize(
    ("resources", "replicas", "devices"),
    [
        ({"num_gpus": 0.5}, 5, 3),
        ({"num_gpus": 0.4}, 5, 3),  # two to a device: the rest of it is of no use
        ({"num_gpus": 2}, 3, 6),
        ({"gpu_memory": "10GiB", "accelerator": "L4"}, 4, 2),
        ({}, 3, 3),  # processors alone: a replica counts as one
    ],
)
def test_devices_are_counted_whole(resources: dict[str, Any], replicas: int, devices: float) -> None:
    assert a_fleet(replicas, resources=resources).devices == devices


def loads(count: int, busy: float, arriving: float) -> list[ReplicaLoad | None]:
    return [ReplicaLoad(10, 0.5, busy, arriving, 1) for _ in range(count)]


@pytest.mark.parametrize(("busy", "arriving"), [(0.95, 1.2), (0.3, 0.3), (0.7, 0.7)])
def test_the_policy_wants_of_a_large_fleet_what_it_would_if_it_saw_every_replica(busy: float, arriving: float) -> None:
    running = 4000
    replicas = ReplicaRange(min=10, max=10_000, downscale_delay_s=60)
    asked = Autoscaler(replicas, running)
    memory, wanted = Memory(), running
    for at in range(0, 120, 10):
        view = View(at, loads(running, busy, arriving), wanted, 10, 10_000, 10 * running)
        wanted, memory = decide(view, Targets(**replicas.targets), memory)
        ours = asked.decide(at, running, loads(8, busy, arriving), 10 * running)
        assert ours == pytest.approx(wanted, abs=running / MOST_SEEN)
    if busy != 0.7:
        assert abs(wanted - running) > 500, "it is asked for a change"


def test_what_the_policy_remembers_survives_that_the_fleet_grows() -> None:
    """A lull is counted in replicas: a unit of 1000 and then of 2000 of them must not double what it needs."""
    replicas = ReplicaRange(min=1, max=100_000, downscale_delay_s=60)
    asked = Autoscaler(replicas, 2000)
    asked.decide(0, 1000, loads(8, 0.4, 0.4), 100)
    wanted = 0
    for at in range(10, 80, 10):
        wanted = asked.decide(at, 2000, loads(8, 0.2, 0.2), 100)
    assert wanted == pytest.approx(2000 * 0.2 / 0.8 / 0.8, rel=0.05)


def test_without_a_replica_the_first_request_starts_one_and_nobody_is_asked_for_more() -> None:
    asked = Autoscaler(ReplicaRange(min=0, max=8), 0)
    assert asked.decide(0, 0, [], 0) == 0
    assert asked.decide(1, 0, [], 50) == 1
    assert asked.decide(2, 0, [], 5000) == 1
    for at in range(3, 8):
        found = asked.decide(at, 1, loads(1, 1.0, 9.0), 5000)
    assert found == 2, "twice as many as run, at the most"


def test_a_fixed_number_of_replicas_stays() -> None:
    asked = Autoscaler(ReplicaRange(min=3, max=3), 3)
    assert [asked.decide(at, 3, loads(3, 1.0, 9.0), 900) for at in range(5)] == [3] * 5
