"""The chart's GPU profile, from no GPU node to several and back, by Ray's own autoscaler for KubeRay."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.fleet import CHART, ClusterFleet, render, running
from tests.cluster.kuberay import wait_until
from tests.cluster.pods import Network
from tests.cluster.probes import IMAGES
from tests.cluster.report import Figures

SCENARIO = "From no GPU to two and back"
PROFILE = CHART / "ci" / "gpu-values.yaml"
GROUP, REPLICAS, CLIENTS = "l4", 2, 6
LONG = 20  # pauses of a quarter of a second
# The profile's times are of real machines; and the load, of a few clients, must be one that two replicas are for.
SETS: dict[str, Any] = {
    "services[0].replicas": {"min": 0, "max": REPLICAS, "target_wait_s": 2, "idle_s": 20, "downscale_delay_s": 10},
    "autoscaler.idleTimeoutSeconds": 20,
    "settings.hold_s": 590,
    "settings.timeout_s": 600,
    "workers.minReplicas": 1,
    "workers.resources": {"cpu": "2", "memory": "4Gi"},
}
WAIT_S = 900.0


def test_a_first_request_brings_a_gpu_node_up_load_brings_more_and_idleness_takes_all_away(
    network: Network, models: Path, figures: Figures, tmp_path: Path
) -> None:
    rendered = render(PROFILE, sets=SETS)
    with running(rendered, network, tmp_path, models, secrets={}, paced=["chat"]) as fleet:
        nodes = lambda: fleet.operator.of_group(GROUP)  # noqa: E731
        assert nodes() == [], "a GPU node runs while nobody asks"
        _first_request(fleet, figures)
        load = Load(fleet)
        with load:
            seconds = wait_until("load brings more nodes", lambda: len(nodes()) == REPLICAS, within_s=WAIT_S)
            figures.add(SCENARIO, f"{CLIENTS} clients at once: until a second GPU node is asked for (s)", seconds)
            seconds += wait_until("the replicas run", lambda: len(fleet.replicas("chat")) == REPLICAS, within_s=WAIT_S)
            figures.add(SCENARIO, "until its replica runs (s)", seconds)
        figures.add(SCENARIO, "answers under load", load.answered, "all asked")
        figures.add(SCENARIO, "refused or failed under load", len(load.failures), "0")
        assert load.failures == []
        began = time.monotonic()
        wait_until("the replicas stop", lambda: not fleet.replicas("chat"), within_s=WAIT_S)
        figures.add(SCENARIO, "idle (20 s asked): until no replica runs (s)", time.monotonic() - began)
        wait_until("the nodes go", lambda: not nodes(), within_s=WAIT_S)
        figures.add(SCENARIO, "until no GPU node is wanted (s)", time.monotonic() - began)
        gone = lambda: not [p for p in fleet.operator.pods.values() if p.spec.labels["ray.io/group"] == GROUP]  # noqa: E731
        wait_until("the pods end", gone, within_s=WAIT_S)
        figures.add(SCENARIO, "until the last GPU pod has ended (s)", time.monotonic() - began)


def _first_request(fleet: ClusterFleet, figures: Figures) -> None:
    """Answered by a node that was not there when it came."""
    began = time.monotonic()
    answers: list[httpx.Response] = []

    def ask() -> None:
        with fleet.client(620) as client:
            answers.append(client.post(IMAGES, json=body(1)))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until("a node is asked for", lambda: bool(fleet.operator.of_group(GROUP)), within_s=WAIT_S)
    figures.add(SCENARIO, "first request: until a GPU node is asked for (s)", time.monotonic() - began)
    asking.join()
    figures.add(SCENARIO, "first request: until it is answered (s)", time.monotonic() - began)
    assert answers
    assert answers[0].status_code == httpx.codes.OK, answers[0].text
    replica = fleet.replicas("chat")[0]
    assert replica["node_ip"] == fleet.operator.of_group(GROUP)[0].address, "it was placed on no GPU node"


def body(steps: int) -> dict[str, Any]:
    return {"model": "assistant", "prompt": "", "steps": steps}


class Load:
    """As many long answers at once as there are clients, one after the other, until it is left."""

    def __init__(self, fleet: ClusterFleet) -> None:
        self._fleet = fleet
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self.answered = 0
        self.failures: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with self._fleet.client(620) as client:
            while not self._over.is_set():
                answer = client.post(IMAGES, json=body(LONG))
                if answer.is_success:
                    self.answered += 1
                else:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")
