"""What a drain of a node by Kubernetes does to whoever is being answered there."""

from __future__ import annotations

import time

import pytest

from tests.cluster.fleet import ClusterFleet
from tests.cluster.kuberay import wait_until
from tests.cluster.pods import Pod
from tests.cluster.probes import PacedStream, Probes
from tests.cluster.report import Figures

STREAM_S = 60.0
WAIT_S = 900.0


@pytest.mark.parametrize("kind", ["gateway", "GPU"])
def test_a_drained_node_lets_its_streams_end_and_no_request_fails(
    fleet: ClusterFleet, figures: Figures, kind: str
) -> None:
    scenario = f"A {kind} node is drained"
    node, via = _drained(fleet, kind)
    streams = [PacedStream(fleet, "second", STREAM_S, via=via).begin() for _ in range(2)]
    wait_until("the streams run", lambda: all(each.begun for each in streams), within_s=60)
    with Probes(fleet, "assistant") as probes:
        began = time.monotonic()
        fleet.operator.drain(node)
        for stream in streams:
            stream.join()
        wait_until("the pod ends", lambda: not node.running, within_s=WAIT_S)
        gone_s = time.monotonic() - began
    ends = [stream.end for stream in streams]
    figures.add(scenario, "streams of 60 s that ended whole", f"{ends.count('completed')} of {len(ends)}", "all")
    figures.add(scenario, "other requests, of which failed", f"{probes.sent}, {len(probes.failures)}", "0")
    figures.add(scenario, "until its pod had ended (s)", gone_s)
    assert set(ends) == {"completed"}, [(each.end, each.why) for each in streams]
    assert probes.sent > 10
    assert probes.failures == []
    wait_until("everything runs again", fleet.is_running, within_s=WAIT_S)
    wait_until("both ways in are ready again", lambda: len(fleet.service.ready) == 2, within_s=WAIT_S)


def _drained(fleet: ClusterFleet, kind: str) -> tuple[Pod, Pod]:
    """The node that goes, and the one by which the streams come."""
    first, other = fleet.operator.of_group("cpu")
    return (first, first) if kind == "gateway" else (fleet.node_of("second"), other)
