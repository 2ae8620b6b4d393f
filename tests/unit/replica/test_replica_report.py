"""What a replica says of itself: who waits for what, and how fast it goes."""

from __future__ import annotations

from services.engine.engine import Engine
from services.model_slot import ModelSlot
from services.replica_report import Reporter
from services.scaling.load import ReplicaLoad
from shared.prediction import UNSEEN, Share, Waiting, queue_wait_s
from tests.contract.fake import FakeParams
from tests.unit.replica.fakes import loaded, service
from tests.unit.replica.overload_sim import Simulation, Stream


def slots() -> dict[str, ModelSlot]:
    return {config.id: ModelSlot("transformer", config) for config in service("m", "n").models}


def test_a_report_says_who_waits_for_what_by_model_priority_and_tenant() -> None:
    simulation = Simulation()
    engine: Engine = simulation.engine
    engine.submit("m", [FakeParams(cost=3.0), FakeParams(cost=4.0)], tenant="a", weight=2.0)
    engine.submit("m", [FakeParams(cost=5.0)], tenant="b", priority=2)
    report = Reporter("s", "r", engine, simulation.admission).report(slots(), max_wait_s=7.0)
    waiting, idle = report.models
    assert set(waiting.waiting) == {Waiting(Share(1, "a", 2.0), 7.0, 2), Waiting(Share(2, "b", 1.0), 5.0)}
    assert (waiting.free_rows, idle.free_rows) == (4, 0)
    assert (idle.model, idle.waiting, idle.pace) == ("n", (), UNSEEN)
    assert report.max_wait_s == 7.0


def test_a_report_says_how_fast_the_model_goes_and_how_close_bounds_are() -> None:
    simulation = Simulation()
    simulation.run(30, Stream(20.0))
    simulation.admission.learn("m", [FakeParams(cost=5.0, steps=5), FakeParams(cost=1.0, steps=1)], bound=10.0)
    pace = Reporter("s", "r", simulation.engine, simulation.admission).report(slots(), max_wait_s=60).models[0].pace
    assert None not in (pace.units_per_second, pace.seconds_per_step, pace.used)
    assert (pace.exact, pace.exact_steps) == (0.6, 0.5)


def test_the_load_for_scaling_is_what_a_request_would_wait_and_what_is_done_by_what_can_be() -> None:
    simulation = Simulation(max_wait_s=1e9)
    reporter = Reporter("s", "r", simulation.engine, simulation.admission)
    assert reporter.load() == ReplicaLoad(), "a replica that was asked nothing"
    simulation.run(30, Stream(20.0, deadline_s=1e9))
    simulation.engine.submit("m", [FakeParams(cost=20.0)] * 50, tenant="a")
    full = reporter.load()
    assert (full.rows, full.busy, full.is_paced) == (50.0, 1.0, 1.0)
    assert full.arriving > full.busy, "fifty rows at once"
    report = reporter.report(slots(), max_wait_s=60).models[0]
    assert full.wait_s == queue_wait_s(report.load, report.pace)
    assert full.wait_s > 5


def test_a_report_says_how_full_batches_were_and_how_long_the_model_took_to_load() -> None:
    simulation = Simulation()
    simulation.engine.submit("m", [FakeParams(steps=1), FakeParams(steps=2)], tenant="a")
    while simulation.engine.has_work:
        simulation.engine.step()
    known = slots()
    known["m"].load_s = 1.5
    report = Reporter("s", "r", simulation.engine, simulation.admission).report(known, max_wait_s=60, healthy=False)
    busy, idle = report.models
    assert (busy.batch_rows.total, sum(busy.batch_rows.counts), busy.batch_rows.counts[:2]) == (3.0, 2, (1, 1))
    assert (busy.places, busy.load_s) == (4, 1.5)
    assert (idle.places, idle.load_s) == (0, None)
    assert (report.healthy, report.devices) == (False, ())


def test_a_report_has_what_a_family_counts_itself() -> None:
    simulation, known = Simulation(), slots()
    known["m"].loaded = loaded()
    known["m"].loaded.counts.add(guesses=3)
    report = Reporter("s", "r", simulation.engine, simulation.admission).report(known, max_wait_s=60)
    assert [model.counts for model in report.models] == [{"guesses": 3}, {}]
