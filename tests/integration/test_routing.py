"""Routes on a real fleet: a canary's share, replicas that are killed, affinity, and changes while requests flow."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import yaml

from services import fleet
from tests.integration.conftest import LocalFleet, Tell

PAIR = "ray::ServeReplica:pair:Replica"
PATIENCE_S = 60.0


def target(model: str, weight: float = 1) -> dict[str, Any]:
    return {"model": model, "weight": weight}


ROUTES = [
    {"name": "canary", "targets": [target("llama", 90), target("qwen", 10)]},
    {"name": "safe", "targets": [target("duo")], "fallbacks": ["llama"]},
    {"name": "sticky", "targets": [target("duo")], "affinity": "session"},
    {"name": "alike", "targets": [target("duo")], "affinity": "prefix"},
    {"name": "live", "targets": [target("llama")]},
]


class Routed:
    """The fleet with a service of two replicas more, and routes."""

    def __init__(self, local_fleet: LocalFleet) -> None:
        self.fleet = local_fleet
        self.config = yaml.safe_load(local_fleet.config_path.read_text())
        qwen = self.config["services"][1]["models"][0]
        pair = {"name": "pair", "family": "transformer", "replicas": {"min": 2, "max": 2}}
        self.config["services"].append({**pair, "models": [{**qwen, "id": "duo"}]})
        self.config["routes"] = ROUTES

    def apply(self) -> None:
        self.fleet.config_path.write_text(yaml.safe_dump(self.config))
        fleet.reload("main", self.fleet.settings.home)

    def lead(self, *targets: dict[str, Any]) -> None:
        """Where the route `live` leads to from now on."""
        self.config["routes"] = [*ROUTES[:-1], {"name": "live", "targets": list(targets)}]

    def rows_by_replica(self) -> dict[str, float]:
        """Rows of `duo` that have ended, by replica."""
        with self.fleet.http() as client:
            lines = client.get("/metrics").raise_for_status().text.splitlines()
        rows: Counter[str] = Counter()
        for line in lines:
            if line.startswith("castalia_finished_rows_total{") and 'model="duo"' in line:
                rows[line.partition('replica="')[2].partition('"')[0]] += int(float(line.rpartition(" ")[2]))
        return dict(rows)


@pytest.fixture(scope="module")
def routed(local_fleet: LocalFleet) -> Iterator[Routed]:
    before = local_fleet.config_path.read_text()
    found = Routed(local_fleet)
    found.apply()
    yield found
    local_fleet.config_path.write_text(before)
    fleet.reload("main", local_fleet.settings.home)
    assert not local_fleet.processes(PAIR)


class Load:
    """Clients that ask without a pause until told to stop. An outcome is the answering model, or what went wrong."""

    def __init__(self, routed: Routed, route: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._routed = routed
        self._route = route
        self._over = threading.Event()
        self._lock = threading.Lock()

    def ask(self, *, stream: bool) -> None:
        with self._routed.fleet.http() as client:
            while not self._over.is_set():
                outcome = (self._streamed if stream else self._whole)(client)
                with self._lock:
                    self.outcomes[outcome] += 1

    def stop(self) -> None:
        self._over.set()

    def wait_for(self, outcome: str, more: int = 5) -> None:
        """Until so many more requests ended thus."""
        enough, deadline = self.outcomes[outcome] + more, time.monotonic() + PATIENCE_S
        while self.outcomes[outcome] < enough:
            assert time.monotonic() < deadline, self.outcomes
            self._over.wait(0.01)

    def _body(self, *, stream: bool) -> dict[str, Any]:
        return {"model": self._route, "prompt": "a", "max_tokens": 12, "ignore_eos": True, "stream": stream}

    def _whole(self, client: httpx.Client) -> str:
        answer = client.post("/v1/completions", json=self._body(stream=False))
        return answer.json()["model"] if answer.is_success else f"{answer.status_code} {answer.text}"

    def _streamed(self, client: httpx.Client) -> str:
        """A stream that breaks after its first event is "cut": nobody could stand in for it."""
        model = ""
        with client.stream("POST", "/v1/completions", json=self._body(stream=True)) as answer:
            if not answer.is_success:
                return f"{answer.status_code} {answer.read().decode()}"
            try:
                for line in answer.iter_lines():
                    if line == "data: [DONE]":
                        return model
                    if line.startswith("data: "):
                        chunk = json.loads(line.removeprefix("data: "))
                        if "error" in chunk:
                            return "cut" if model else line
                        model = chunk["model"]
            except httpx.RemoteProtocolError:
                pass
            return "cut" if model else "broken before its first event"


@contextmanager
def load(routed: Routed, route: str) -> Generator[Load]:
    running = Load(routed, route)
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(running.ask, stream=i % 2 == 0) for i in range(4)]
        try:
            yield running
        finally:
            running.stop()
    for client in clients:
        client.result()


@pytest.mark.slow
def test_a_canary_gets_its_share_of_a_thousand_requests(routed: Routed, tell: Tell) -> None:
    def ask(_: int) -> str:
        return str(client.post("/tokenize", json={"model": "canary", "prompt": "a"}).raise_for_status().json()["model"])

    with routed.fleet.http() as client, ThreadPoolExecutor(4) as pool:
        share = Counter(pool.map(ask, range(1000)))
    tell(f"of 1,000 requests to a 90/10 split the canary got {share['qwen']}")
    assert share["llama"] + share["qwen"] == 1000
    # All but one in ten thousand draws of binomial(1000, 0.1) lie within 3.9 standard deviations.
    assert abs(share["qwen"] - 100) < 3.9 * (1000 * 0.1 * 0.9) ** 0.5


def test_a_session_meets_one_replica_and_prompts_that_begin_unlike_are_spread(routed: Routed) -> None:
    def ask(route: str, prompt: str, session: str) -> None:
        body = {"model": route, "prompt": prompt, "max_tokens": 1}
        client.post("/v1/completions", json=body, headers={"x-castalia-session": session}).raise_for_status()

    def added(route: str, *requests: tuple[str, str]) -> list[float]:
        """How many of the requests, each a prompt and a session, met each replica; the fewest first."""
        before = routed.rows_by_replica()
        for prompt, session in requests:
            ask(route, prompt, session)
        return sorted(rows - before.get(replica, 0) for replica, rows in routed.rows_by_replica().items())

    numbers = [str(i) for i in range(24)]
    with routed.fleet.http() as client:
        assert added("sticky", *((prompt, "mine") for prompt in numbers))[-1] == 24
        assert added("sticky", *(("a", session) for session in numbers))[0] > 0
        assert added("alike", *(("the same beginning", session) for session in numbers))[-1] == 24
        assert added("alike", *((f"{prompt} begins unlike", "mine") for prompt in numbers))[0] > 0


def test_routes_weights_and_models_change_under_load_without_a_failed_request(routed: Routed, tell: Tell) -> None:
    models = routed.config["services"][1]["models"]
    with load(routed, "live") as running:
        running.wait_for("llama")
        routed.lead(target("llama"), target("qwen"))
        routed.apply()
        running.wait_for("qwen")
        models.append({**models[0], "id": "extra"})
        routed.lead(target("extra"))
        routed.apply()
        running.wait_for("extra")
        models.pop()
        routed.lead(target("llama"))
        routed.apply()
        running.wait_for("llama")
    tell(f"three changes under load: {running.outcomes.total()} requests, none failed")
    assert set(running.outcomes) == {"llama", "qwen", "extra"}


def test_killed_replicas_are_stood_in_for_without_a_failure_before_the_first_byte(routed: Routed, tell: Tell) -> None:
    with load(routed, "safe") as running:
        running.wait_for("duo")
        for _ in range(3):  # the second and the third time as they start again
            for replica in _replicas(routed):
                replica.kill()
            running.wait_for("llama", more=20)
    tell(f"replicas were killed three times: {dict(running.outcomes)}")
    assert set(running.outcomes) - {"cut"} == {"duo", "llama"}


def _replicas(routed: Routed) -> list[Any]:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := routed.fleet.processes(PAIR)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
