"""Where the CPU time of a fleet goes: the split between the engine and what is around it."""

from __future__ import annotations

import pytest

from loadtests.over_http import CpuEdge, cpu_spent


def test_the_engine_is_the_thread_that_was_busiest_between_the_edges_not_before_them() -> None:
    before = CpuEdge({"replica": 20.0, "gateway": 1.0}, {1: 15.0, 2: 5.0})  # thread 1 loaded the model
    after = CpuEdge({"replica": 31.0, "gateway": 3.0, "HAProxy": 0.5}, {1: 15.0, 2: 15.0, 3: 1.0})
    assert cpu_spent(before, after) == pytest.approx({"replica": 1.0, "engine": 10.0, "gateway": 2.0, "HAProxy": 0.5})


def test_a_peer_without_threads_to_tell_apart_is_counted_whole() -> None:
    assert cpu_spent(CpuEdge({"server": 1.0}, {}), CpuEdge({"server": 4.0}, {})) == {"server": 3.0}
