"""Cold starts: phases out of log lines, what counts as cold, the servers' configuration, and the report."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from ray.serve.config import AutoscalingConfig

from loadtests import cold
from loadtests.client import Answer
from loadtests.cold import measure, steps
from loadtests.cold_phases import (
    FIRST_TOKEN,
    MARKS,
    MODEL_COLD,
    PROCESS,
    REPLICA_COLD,
    NotCold,
    marks_of,
    phases_of,
    ray_lines,
)
from loadtests.cold_report import COLD, FLEET, PLAIN, RELOAD, WARM, Cell, Results, goals, tables, write
from loadtests.peers.cold_app import say, scaling
from loadtests.peers.cold_servers import IDLE_S, RIVALS, ColdFleet, started_at, titled
from loadtests.peers.server import NotReady
from loadtests.workload import Job
from services.app import load_fleet_config, serve_config
from shared.config.models import HostedService
from shared.config.settings import Settings
from tests.unit.replica.fakes import FakeRegistry, Loader, loaded, pool_of, service

MORNING = datetime(2026, 3, 1, 9, 0, 0).timestamp()  # local, as Ray writes its times


def controller(after_s: float, text: str) -> str:
    at = datetime.fromtimestamp(MORNING + after_s)
    return f"INFO {at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03} controller 4242 -- {text}"


def replica(after_s: float, event: str, **more: object) -> str:
    at = datetime.fromtimestamp(MORNING + after_s, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"event": event, "level": "info", "timestamp": at, **more})


UPSCALING = "Upscaling Deployment(name='Replica', app='cold') from 0 to 1 replicas. Current ongoing requests: 1.00"
STARTED = "Replica(id='x', deployment='Replica', app='cold') started successfully on node 'n' after 5.1s (PID: 7)."
COLD_LINES = [
    controller(-20, "Upscaling Deployment(name='Replica', app='cold') from 0 to 1 replicas. An earlier one."),
    controller(0.2, UPSCALING),
    "a traceback, or what else a process says",
    '{"event": "cut off in the mid',
    "[1, 2]",
    replica(2.0, "replica_starting", service="cold"),
    replica(2.5, "weights of model bench are verified"),
    replica(5.0, "family transformer is imported"),
    replica(5.5, "weights_read", model="bench"),
    replica(6.5, "linear_layers", kernels="onednn", packed_ms=1.5),
    replica(7.0, "model bench is ready after 4.5 s"),
    controller(7.1, STARTED),
    replica(60.0, "replica_starting", service="cold"),
]


def test_every_phase_of_a_cold_replica_is_read_from_the_two_logs() -> None:
    marks = marks_of(COLD_LINES, began=MORNING, ended=MORNING + 8)
    assert set(marks) == set(MARKS) - {"evicted"}
    every = {**marks, PROCESS: MORNING + 0.5, FIRST_TOKEN: MORNING + 7.5}
    phases = phases_of(list(REPLICA_COLD), every, began=MORNING)
    expected = [0.2, 0.3, 1.5, 0.5, 2.5, 0.5, 1.0, 0.5, 0.1, 0.4]
    assert phases == pytest.approx(dict(zip(REPLICA_COLD, expected, strict=True)), abs=2e-3)


def test_every_phase_of_a_model_that_takes_anothers_place_is_read() -> None:
    lines = [
        replica(0.5, "weights of model warm-b are verified"),
        replica(0.7, "model warm-a was evicted"),
        replica(0.7, "family transformer is imported"),
        *COLD_LINES[8:11],
    ]
    marks = marks_of(lines, began=MORNING, ended=MORNING + 8)
    phases = phases_of(list(MODEL_COLD), {**marks, FIRST_TOKEN: MORNING + 7.2}, began=MORNING)
    expected = [0.5, 0.2, 4.8, 1.0, 0.5, 0.2]
    assert phases == pytest.approx(dict(zip(MODEL_COLD, expected, strict=True)), abs=2e-3)


def test_a_phase_that_was_over_before_its_turn_takes_no_time_and_the_sum_is_the_whole() -> None:
    marks = {"decided": 10.4, PROCESS: 3.0, "ready": 15.0, FIRST_TOKEN: 15.5}
    phases = phases_of(list(REPLICA_COLD), marks, began=10.0)
    assert phases == pytest.approx({"decided": 0.4, PROCESS: 0.0, "ready": 4.6, FIRST_TOKEN: 0.5})
    assert sum(phases.values()) == pytest.approx(5.5)


def test_a_request_for_which_nothing_was_loaded_is_not_taken_for_a_cold_one() -> None:
    with pytest.raises(NotCold):
        marks_of(COLD_LINES, began=MORNING + 30, ended=MORNING + 40)


async def test_the_marks_are_what_the_pool_of_models_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    log = logging.Logger("one of its own, whatever others have been told to leave out", logging.INFO)
    log.addFilter(lambda record: texts.append(record.getMessage()) or False)
    monkeypatch.setattr("services.model_pool.log", log)
    pool = pool_of(Loader({"a": loaded(60), "b": loaded(60)}), FakeRegistry())
    pool.apply(service("a", "b"))  # there is room for one of them
    for model in "ab":
        async with pool.lease(model, wait_s=10):
            texts.append("leased")
    marks = [next((mark for mark, pattern in MARKS.items() if pattern.search(text)), text) for text in texts]
    assert set(marks[:2]) == {"verified", "imported"}  # beside each other
    assert marks[2:4] == ["ready", "leased"]
    assert set(marks[4:]) == {"verified", "evicted", "imported", "ready", "leased"}


def test_what_the_peer_says_is_read_as_a_replicas_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.time()
    for event in ("replica_starting", "family_imported", "model_ready"):
        say(event)
    (tmp_path / "worker-abc-7.err").write_text(capfd.readouterr().err)
    (tmp_path / "worker-abc-7.out").write_text(replica(0, "linear_layers"))
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "controller_9.log").write_text(controller(0, UPSCALING) + "\n")
    assert set(marks_of(ray_lines(tmp_path), began=began, ended=time.time())) == {"starting", "imported", "ready"}
    assert len(list(ray_lines(tmp_path))) == 4


def test_a_process_is_dated_to_less_than_the_second_of_the_boot_time() -> None:
    before = time.time()
    with subprocess.Popen(["sleep", "30"]) as child:
        try:
            assert before - 0.05 <= started_at(psutil.Process(child.pid)) <= time.time() + 0.05
            while not psutil.Process(child.pid).cmdline() and time.time() < before + 10:
                time.sleep(0.01)  # a process has no command line for an instant after its start
            assert titled([psutil.Process(child.pid)], "sleep")
        finally:
            child.kill()
    assert not titled([psutil.Process()], "ServeReplica:cold:")


def test_the_fleet_has_a_service_that_rests_and_one_with_room_for_one_of_two_models(tmp_path: Path) -> None:
    fleet = ColdFleet(tmp_path / "smollm2", tmp_path)
    config = load_fleet_config(tmp_path / "models.yaml")
    resting, warm = config.hosted
    assert (resting.name, resting.replicas.min, resting.replicas.idle_s) == ("cold", 0, IDLE_S)
    assert [model.id for model in resting.models] == [fleet.model]
    assert warm.is_kept
    assert tuple(model.id for model in warm.models) == RIVALS
    assert {_source(each) for each in (resting, warm)} == {f"file://{tmp_path}/smollm2"}


def _source(each: HostedService) -> str:
    (source,) = {model.source for model in each.models}
    return source


def test_ray_serve_takes_the_peers_scaling_and_looks_as_often_as_ours(tmp_path: Path) -> None:
    theirs = AutoscalingConfig.model_validate(scaling(IDLE_S))
    ColdFleet(tmp_path, tmp_path)
    config = serve_config(load_fleet_config(tmp_path / "models.yaml"), Settings())
    ours = config["applications"][0]["deployments"][0]["autoscaling_config"]
    assert (theirs.min_replicas, theirs.max_replicas, theirs.downscale_to_zero_delay_s) == (0, 1, IDLE_S)
    assert theirs.metrics_interval_s == ours["metrics_interval_s"]
    assert theirs.look_back_period_s == ours["look_back_period_s"]


class FakeServer:
    """Rests after each answer; logs that it loaded a model unless it was the last one's."""

    asked: list[str]

    def __init__(self, folder: Path, work: Path) -> None:
        self.ray_logs = work / self.name
        self.ray_logs.mkdir()
        self._ready = ""

    name = FLEET

    def start(self) -> None: ...
    def stop(self) -> None:
        self.asked.append(f"stop {self.name}")

    def replicas(self) -> list[psutil.Process]:
        if self._ready != "bench":
            return []
        is_asking = self.asked[-1] == f"{self.name} bench"
        self.asked.append("looked")
        self._ready = self._ready if is_asking else ""
        return [psutil.Process(os.getpid())] if is_asking else []

    async def ask(self, job: Job) -> Answer:
        return await self.ask_model("bench", job)

    async def ask_model(self, model: str, job: Job) -> Answer:
        began = time.perf_counter()
        if model != self._ready:
            at = datetime.now(UTC).isoformat()
            with (self.ray_logs / "worker-1.err").open("a") as log:
                log.write(json.dumps({"event": f"model {model} is ready after 1.0 s", "timestamp": at}) + "\n")
        self._ready = model
        self.asked.append(f"{self.name} {model}")
        time.sleep(0.01)  # noqa: ASYNC251 - nothing else runs on this loop
        return Answer(began, time.perf_counter(), time.perf_counter(), job.output_tokens)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    plain = type("FakePlain", (FakeServer,), {"name": PLAIN, "asked": asked})
    monkeypatch.setattr(cold, "ColdFleet", type("FakeFleet", (FakeServer,), {"asked": asked}))
    monkeypatch.setattr(cold, "PlainServe", plain)
    monkeypatch.setattr(cold, "SETTLE_S", 0.0)
    monkeypatch.setattr(cold, "POLL_S", 0.0)
    return asked


def test_servers_are_woken_in_turn_and_the_first_round_is_not_counted(asked: list[str], tmp_path: Path) -> None:
    results = Results()
    said = list(measure(2, tmp_path, tmp_path, results))
    assert len(said) == steps(2)
    one = [f"{FLEET} bench", f"{FLEET} bench", f"{PLAIN} bench", f"{PLAIN} bench"]
    rivals = (RIVALS[1], RIVALS[0], RIVALS[1])
    requests = [each for each in asked if each != "looked"]
    ends = [f"stop {PLAIN}", f"stop {FLEET}"]
    assert requests == [*(each for rival in rivals for each in [*one, f"{FLEET} {rival}"]), *ends]
    measured = {Cell(COLD, FLEET), Cell(COLD, PLAIN), Cell(WARM, FLEET), Cell(WARM, PLAIN), Cell(RELOAD, FLEET)}
    assert {cell: len(starts.first_token_s) for cell, starts in results.cells.items()} == dict.fromkeys(measured, 2)
    starts = results.cells[Cell(COLD, FLEET)]
    sums = [sum(phases) for phases in zip(*starts.phases.values(), strict=True)]
    assert sums == pytest.approx(starts.first_token_s, abs=1e-4)


def test_a_peer_that_does_not_start_is_named_and_the_rest_is_measured(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: FakeServer) -> None:
        raise NotReady("it ended with 1")

    monkeypatch.setattr(cold.PlainServe, "start", start)
    results = Results()
    said = list(measure(1, tmp_path, tmp_path, results))
    assert any(PLAIN in each and "missing" in each for each in said)
    assert results.missing == {PLAIN: "it ended with 1"}
    assert {cell.server for cell in results.cells} == {FLEET}
    assert f"Missing: {PLAIN}. it ended with 1" in write(results, tmp_path, "").read_text()
    assert asked[-2:] == [f"stop {PLAIN}", f"stop {FLEET}"]


@pytest.fixture
def results() -> Results:
    found = Results(options="--rounds 3", seconds=200.0)
    for ours, theirs in ((6.0, 9.0), (4.0, 8.0), (5.5, 5.0)):
        found.at(COLD, FLEET).take(ours, {"decided": 0.5, "verified": 0.4, FIRST_TOKEN: ours - 0.9})
        found.at(COLD, PLAIN).take(theirs, {"decided": 0.1, FIRST_TOKEN: theirs - 0.1})
    for seconds in (2.0, 2.5, 3.5):
        found.at(RELOAD, FLEET).take(seconds, {"verified": 0.4, FIRST_TOKEN: seconds - 0.4})
    return found


def test_targets_are_of_medians_and_the_peer_is_compared_round_by_round(results: Results) -> None:
    reload, replica_cold, ahead = goals(results)
    assert (reload.got, reload.bound, reload.met) == (2.5, 3.0, True)
    assert (replica_cold.got, replica_cold.bound, replica_cold.met) == (5.5, 5.0, False)
    assert (ahead.got, ahead.met) == (1.5, True)  # 1.5, 2.0 and 0.9


def test_a_peer_that_was_sooner_is_a_target_that_was_missed() -> None:
    found = Results()
    found.at(COLD, FLEET).take(4.0, {})
    found.at(COLD, PLAIN).take(3.0, {})
    assert [goal.met for goal in goals(found)] == [True, False]


def test_the_report_has_medians_ranges_phases_and_targets(results: Results, tmp_path: Path) -> None:
    assert [table.title for table in tables(results)] == [
        "From the request to the first token",
        "Replica cold: phases, in seconds",
        "Replica warm, model cold: phases, in seconds",
        "Targets",
    ]
    text = write(results, tmp_path, "What it is.").read_text()
    assert "`python -m loadtests.cold --rounds 3`: 200 s" in text
    assert f"| {COLD} | {FLEET} | 5.50 (4.00 to 6.00) |" in text
    assert f"| phase | {FLEET} | {PLAIN} |" in text
    assert f"| {REPLICA_COLD['verified']} | 0.40 (0.40 to 0.40) |  |" in text
    assert f"| {RELOAD}: first token of {FLEET}, s | 2.50 | at most 3 | yes |" in text
    cells = json.loads((tmp_path / "cold.json").read_text())["cells"]
    assert cells[1]["first_token_s"] == [9.0, 8.0, 5.0]
