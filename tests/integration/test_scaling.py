"""A service whose replicas change in number: none at rest, more while its queue is long, none again afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from services.cli import app
from tests.integration.conftest import LocalFleet, Tell, checkpoint

PATIENCE_S = 120  # for a replica to start, or to stop, on a busy machine
MOST = 2
CLIENTS = 12
TOKENS = 300
# One row at a time, so that a dozen clients have a queue of some seconds.
SCALES = {
    "min": 0,
    "max": MOST,
    "target_wait_s": 0.5,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 3,
    "idle_s": 5,
}


@pytest.fixture
def scaled(local_fleet: LocalFleet) -> Iterator[LocalFleet]:
    """The fleet with one more service, at rest."""
    before = local_fleet.config_path.read_text()
    source = checkpoint(local_fleet.checkpoints / "scaled", "llama")
    model = {"id": "scaled", "source": source, "max_batch_size": 1}
    entry = {"name": "scaled", "family": "transformer", "replicas": SCALES, "models": [model]}
    config = yaml.safe_load(before)
    local_fleet.config_path.write_text(yaml.safe_dump({**config, "services": [*config["services"], entry]}))
    apply(local_fleet)
    yield local_fleet
    local_fleet.config_path.write_text(before)
    apply(local_fleet)


def apply(local_fleet: LocalFleet) -> None:
    result = CliRunner().invoke(app, ["apply", "main"], env={"CASTALIA_HOME": str(local_fleet.settings.home)})
    assert result.exit_code == 0, result.output


def replicas(local_fleet: LocalFleet) -> int:
    return len(local_fleet.processes("ray::ServeReplica:scaled"))


def until(holds: Callable[[], bool], what: str) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_S, what
        time.sleep(0.2)
    return time.monotonic() - began


def ask(local_fleet: LocalFleet, tokens: int) -> int:
    body = {"model": "scaled", "prompt": "a", "max_tokens": tokens, "ignore_eos": True}
    with local_fleet.http() as client:
        return client.post("/v1/completions", json=body).status_code


@pytest.mark.slow
@pytest.mark.timeout(6 * PATIENCE_S)
def test_a_service_wakes_grows_with_its_queue_and_goes_back_to_rest(scaled: LocalFleet, tell: Tell) -> None:
    assert replicas(scaled) == 0, "it runs already, so the test proves nothing"
    began = time.monotonic()
    assert ask(scaled, 1) == httpx.codes.OK
    woken_s = time.monotonic() - began
    assert replicas(scaled) == 1
    stop = Event()

    def load() -> set[int]:
        found = set[int]()
        while not stop.is_set():
            found.add(ask(scaled, TOKENS))
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load) for _ in range(CLIENTS)]
        try:
            grown_s = until(lambda: replicas(scaled) == MOST, "a long queue adds no replica")
            until(lambda: scaled.metric("castalia_predicted_wait_seconds", service="scaled") > 0, "no wait is shown")
        finally:
            stop.set()
        answers = set.union(*(client.result() for client in clients))
    assert answers == {httpx.codes.OK}
    rested_s = until(lambda: replicas(scaled) == 0, "an idle service keeps a replica")
    tell(f"woken in {woken_s:.1f} s, {MOST} replicas after {grown_s:.1f} s of load, at rest {rested_s:.1f} s after it")
