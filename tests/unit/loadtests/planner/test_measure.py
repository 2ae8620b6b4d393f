"""Measuring a fleet for the planner: rates from windows, loads on time, and a file that `validate` reads."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from loadtests.client import Answer, Window
from loadtests.peers.paced import replica_of, replica_piece
from loadtests.planner import validate
from loadtests.planner.live import PacedStream, jobs, open_loop, poisson_trace, reading, seen_in
from loadtests.planner.measured import Measurements, Point, recorded
from loadtests.planner.plan import Load
from loadtests.planner.scale_out import MEASURED, Loaded, Scale, tables, write, write_measured
from loadtests.planner.steady import Steady, SteadyRun
from loadtests.sse import StreamCut
from loadtests.traffic.trace import Arrival, write_trace
from loadtests.workload import Job, Mix
from services.gateway.audio_wire import AudioCounts, SpeechEvents
from services.gateway.stream_writer import SSE
from shared.events import AudioDelta, RowEvent
from tests.unit.loadtests.planner.plans import a_load
from tests.unit.loadtests.planner.test_cli import a_point, a_summary

MIX = Mix(prompt=(1, 4), output=(2, 6))


def test_what_was_seen_counts_ends_in_the_window_and_times_of_what_was_sent_in_it() -> None:
    before = Answer(8.0, 8.5, 11.0, 1)  # ends in the window, was sent before
    inside = Answer(11.0, 11.2, 12.0, 1)
    across = Answer(19.0, 19.4, 21.0, 1)  # ends after
    seen = seen_in(Window(10.0, 20.0, (before, inside, across), client_cpu_s=0.0))
    assert seen.answered_per_second == pytest.approx(0.2)
    assert seen.time_to_first_p95_s == pytest.approx(0.4)
    assert seen.end_to_end_p95_s == pytest.approx(2.0)


def test_the_speed_of_reading_is_a_slope_and_the_rest_its_height_at_no_prompt() -> None:
    def took(seconds: float) -> Answer:
        return Answer(5.0, 5.0 + seconds, 6.0 + seconds, 1)

    per_second, overhead_s = reading({500: [took(0.53), took(0.53)], 100: [took(0.13), took(9.0), took(0.13)]})
    assert per_second == pytest.approx(1000)
    assert overhead_s == pytest.approx(0.03)


def test_a_trace_is_drawn_at_its_rate_with_the_mixs_lengths_and_the_same_again() -> None:
    trace = poisson_trace(MIX, 50.0, 60.0, seed=3)
    assert len(trace) == 3000
    gaps = [after.at - before.at for before, after in pairwise(trace)]
    assert stdev(gaps) == pytest.approx(fmean(gaps), rel=0.1), "as of an exponential distribution"
    assert trace == poisson_trace(MIX, 50.0, 60.0, seed=3)
    assert {each.prompt_tokens for each in trace} == {1, 2, 3, 4}
    assert {each.output_tokens for each in trace} == {2, 3, 4, 5, 6}


async def test_an_open_loop_waits_for_nobody_and_times_count_from_the_due_time() -> None:
    edges: list[float] = []

    async def stalls(job: Job) -> Answer:
        started = time.perf_counter()
        await asyncio.sleep(0.3)
        return Answer(started, time.perf_counter(), time.perf_counter(), job.output_tokens)

    requests = [(0.02 * number, 1, 2) for number in range(10)]
    began = time.perf_counter()
    window = await open_loop(
        stalls, requests, warm_s=0.1, window_s=0.15, at_edge=lambda: edges.append(time.perf_counter())
    )
    assert time.perf_counter() - began < 10 * 0.3 / 2, "the next was sent before the answer"
    assert len(window.answers) == 10, "what was sent in the window is waited for"
    assert window.answers[3].started == pytest.approx(began + 0.06, abs=0.02)
    assert edges == pytest.approx([began + 0.1, began + 0.25], abs=0.05)


async def test_what_is_refused_ends_an_open_loop() -> None:
    async def refuses(job: Job) -> Answer:
        raise ConnectionError("no")

    with pytest.raises(ExceptionGroup):
        await open_loop(refuses, [(0.0, 1, 1)], warm_s=0.0, window_s=0.05, at_edge=lambda: None)


def test_recorded_requests_are_simulated_as_they_came() -> None:
    load = a_load(output=99)
    run = SteadyRun(load, Steady(1, 10.0, warm_s=0.0, requests=[(1.0, 0, 2), (2.0, 0, 3)]))
    times = run.ledger.quantiles()["end_to_end_s"]
    assert times["p50"] == pytest.approx(2.0), "the first has the place for its two seconds"
    assert times["p95"] == pytest.approx(1.0 + 3.0), "the second waits for a second"
    assert run.answered_per_second == pytest.approx(0.2)


def a_trace(path: Path, *arrivals: Arrival) -> Path:
    write_trace(path, arrivals)
    return path


def measurements(folder: Path) -> tuple[Load, list[Loaded]]:
    """A replica with one place that makes a unit a second, and what it and two of them do by hand."""
    load = a_load(rates={"units_per_second": {1: 1.0}, "prompt_units_per_second": 1e6}, output=2)
    path = folder / MEASURED
    path.parent.mkdir()
    trace = a_trace(path.parent / "one.csv", Arrival(1, "", "", 1, 2), Arrival(1.5, "", "", 1, 3))
    open_loop = {"replicas": 1, "trace": trace, "seconds": 10}
    loads: list[tuple[Any, float | None, dict[str, float]]] = [
        (open_loop, 0.5, {"answered_per_second": 0.2, "time_to_first_p95_s": 1.5})
    ]
    for replicas in (1, 2):
        seen = {"answered_per_second": 0.5 * replicas, "time_to_first_p95_s": 3.0}
        loads.append(({"replicas": replicas, "clients": 2 * replicas, "seconds": 200, "warm_s": 10.5}, None, seen))
    found = [
        Loaded(Point.model_validate({**asked, "seen": seen}), share, {"gateway": 0.25}, [10] * asked["replicas"])
        for asked, share, seen in loads
    ]
    return load, found


def test_what_is_written_is_read_by_validate_wherever_the_folder_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    load, loads = measurements(tmp_path / "out")
    written = Measurements(name="By hand", load=load, points=[each.point for each in loads])
    read = write_measured(written, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert read.load == load
    assert read.points[0].trace is not None
    assert read.points[0].requests == [(1.0, 1, 2), (1.5, 1, 3)]
    assert validate.main([str(tmp_path / "moved" / MEASURED)]) == 0
    assert "By hand: predicted and measured" in capsys.readouterr().out


def a_scale(folder: Path, *, times: float = 1.0) -> Scale:
    load, loads = measurements(folder)
    if times != 1.0:
        seen = loads[-1].point.seen.model_copy(update={"answered_per_second": times})
        point = loads[-1].point.model_copy(update={"seen": seen})
        loads[-1] = Loaded(point, None, loads[-1].cpu, loads[-1].answered)
    return Scale(load, loads, "the command", seconds=60.0, load_before=0.0)


def test_the_report_says_how_throughput_grows_and_that_all_is_as_predicted(tmp_path: Path) -> None:
    scale = a_scale(tmp_path)
    text = write(scale, tmp_path, "What it is.").read_text()
    assert "2 replicas answer 2.00 times as much as 1; the planner says 2.01 times." in text
    assert "All 6 predictions are within what is stated." in text
    assert "| 2 | 1.00 | 1.00 | +0.5% | 2.00 | 2.01 |" in text
    assert "| 4 clients on 2 replicas | more than all | 25% | 50.0%, 50.0% |" in text
    assert (tmp_path / "scale_out_throughput.svg").read_text().startswith("<svg")
    rows = json.loads((tmp_path / "scale_out.json").read_text())["loads"]
    assert [row["share"] for row in rows] == [0.5, None, None]
    assert all(figure["met"] for row in rows for figure in row["figures"])


def test_a_fleet_that_scales_worse_than_predicted_is_a_miss(tmp_path: Path) -> None:
    scale = a_scale(tmp_path, times=0.8)
    assert [figure.figure for figure in scale.missed] == ["answers/s"]
    assert "1 of 6 predictions are off by MORE" in scale.verdict
    assert any(row[-1] == "no" for row in tables(scale)[1].rows)


def test_a_trace_with_prompts_needs_a_speed_of_reading(tmp_path: Path) -> None:
    _, loads = measurements(tmp_path)
    with pytest.raises(ValueError, match="prompt_units_per_second is not given"):
        Measurements(load=a_load(output=2), points=[loads[0].point])


@pytest.mark.parametrize(
    ("lines", "said"),
    [([Arrival(1.0, "", "", 5, None)], "lacks prompt_tokens or output_tokens"), ([], "no request is in it")],
)
def test_a_trace_that_leaves_something_to_be_drawn_is_refused(tmp_path: Path, lines: list[Arrival], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recorded(a_trace(tmp_path / "trace.csv", *lines))


def test_a_load_tests_summary_of_a_replayed_trace_is_a_measurement(tmp_path: Path) -> None:
    a_summary(tmp_path / "load.json", arrivals="trace")
    a_trace(tmp_path / "trace.csv", Arrival(1.0, "", "", 5, 7), Arrival(2.0, "", "", 5, 7))
    with pytest.raises(validate.PlanError, match="or give the trace"):
        a_point(tmp_path, summary="load.json")
    load = a_load(rates={"units_per_second": {1: 1.0}, "prompt_units_per_second": 10}).model_dump(exclude_unset=True)
    raw = {"load": load, "points": [{"replicas": 1, "summary": "load.json", "trace": "trace.csv"}]}
    point = Measurements.model_validate(raw, context={"folder": tmp_path}).points[0]
    assert (point.seconds, point.steady.requests) == (50, [(1.0, 5, 7), (2.0, 5, 7)])
    assert point.label == "0.04/s on 1 replica"


def test_a_point_is_of_one_load_alone(tmp_path: Path) -> None:
    trace = a_trace(tmp_path / "trace.csv", Arrival(1.0, "", "", 5, 5))
    seen = {"answered_per_second": 1.0, "time_to_first_p95_s": 1.0}
    with pytest.raises(ValueError, match="give one of per_second, clients and trace"):
        Point.model_validate({"replicas": 1, "trace": trace, "clients": 2, "seconds": 5, "seen": seen})


def test_jobs_have_prompts_of_as_many_letters_as_tokens() -> None:
    job = next(jobs(MIX, seed=1))
    assert len(job.prompt) == job.prompt_tokens


def test_an_answers_pieces_are_counted_and_a_cut_one_is_none() -> None:
    """As the gateway writes them."""
    wire = SpeechEvents(AudioCounts())
    piece = RowEvent(0, AudioDelta(replica_piece(4711), "pcm", 24_000, seconds=0.0, seed=0, prompt_tokens=1))
    data = wire.encode([piece, piece]) + wire.encode([piece]) + wire.last()
    stream = PacedStream()
    stream.feed(data, 1.0)
    assert (stream.pieces, replica_of(stream.audio), stream.pace.first) == (3, 4711, 1.0)
    with pytest.raises(StreamCut, match=r"without \[DONE\]"):
        stream.end()
    stream.feed(SSE.done, 2.0)
    stream.end()
