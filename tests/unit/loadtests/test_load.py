"""A whole load test: Locust in processes of its own, and what the server saw beside what the summary says."""

from __future__ import annotations

import csv
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.unit.loadtests.fake_fleet import BAD, QUEUE_MS, TOKENS, FakeFleet
from tests.unit.loadtests.locusts import Locust, free_port, locust, wait_until

CHATS = "/v1/chat/completions"
IMAGES = "/v1/images/generations"
NO_SUCH_MODEL = ("--model", "no-such-model", "--modalities", "chat")


def test_the_summary_is_what_the_server_saw_and_locusts_own_reports_are_as_ever(
    fake_fleet: FakeFleet, tmp_path: Path
) -> None:
    reports = ("--csv", str(tmp_path / "stats"), "--html", str(tmp_path / "report.html"))
    (tmp_path / "objectives.yaml").write_text("chat: {time_to_first_s: 1.0e-3}\n")
    run = locust(
        tmp_path,
        fake_fleet.url,
        *("--users", "20", "--run-time", "4s", "--modalities", "chat=3,image", "--seed", "1"),
        *("--objectives", str(tmp_path / "objectives.yaml"), *reports),
    )
    assert run.code == 0, run.told
    assert run.summary is not None
    (chats,), (images,) = run.summary.of("chat"), run.summary.of("image")
    assert chats.sent == chats.answered == len(fake_fleet.of(CHATS)) == run.row(CHATS)["num_requests"]
    assert images.sent == images.answered == images.good == len(fake_fleet.of(IMAGES))
    assert chats.good == 0, "no first token comes within a millisecond"
    assert chats.units == TOKENS * chats.sent
    assert run.summary.offered_per_second == pytest.approx(20, rel=0.35)
    assert (run.summary.arrivals, run.summary.shape, run.summary.seed) == ("poisson", None, 1)
    assert 0 < run.summary.generator_cpu_share < 1
    assert chats.metrics["queue_s"].p50 == pytest.approx(QUEUE_MS / 1e3, rel=1e-3)
    assert chats.metrics["between_chunks_s"].count == (TOKENS - 1) * chats.sent
    assert chats.metrics["time_to_first_s"].p50 >= fake_fleet.gap_s
    assert chats.metrics["end_to_end_s"].p50 >= (TOKENS + 1) * fake_fleet.gap_s
    assert run.row("time to first token", "ms")["num_requests"] == chats.sent
    assert run.row("tokens per second", "1/s")["min_response_time"] > 0
    with (tmp_path / "stats_stats.csv").open() as file:
        assert {CHATS, IMAGES} <= {row["Name"] for row in csv.DictReader(file)}
    assert CHATS in (tmp_path / "report.html").read_text()


def test_what_is_no_answer_is_told_apart_and_is_a_failure_of_locusts(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    run = locust(
        tmp_path,
        fake_fleet.url,
        *("--users", "40", "--run-time", "3s", "--modalities", "chat", "--model", "*", "--seed", "1"),
    )
    assert run.code == 1
    assert run.summary is not None
    groups = {group.model: group for group in run.summary.of("chat")}
    kinds = {"refuses": "refused", "refuses-badly": "refused", "misses": "late", "breaks": "failed", "wrong": "failed"}
    for model in BAD:
        seen = len(fake_fleet.of(CHATS, model))
        assert getattr(groups[model], kinds.get(model, "truncated")) == groups[model].sent == seen > 0, model
        assert (groups[model].good, set(groups[model].metrics)) == (0, {"lag_s"})
    bad = sum(groups[model].sent for model in BAD)
    assert run.row(CHATS)["num_failures"] == bad
    assert run.summary.totals.in_flight == 0


def test_a_stall_of_the_server_neither_slows_the_load_nor_hides_in_the_times(
    fake_fleet: FakeFleet, tmp_path: Path
) -> None:
    """For two of five seconds nothing is answered: two fifths of all requests have waited for a second on average."""
    begun = Locust(
        tmp_path,
        fake_fleet.url,
        *("--headless", "--spawn-rate", "100", "--users", "30", "--run-time", "5s", "--modalities", "chat"),
        *("--seed", "2"),
    )
    wait_until("requests come", lambda: len(fake_fleet.of(CHATS)) > 15)
    stalled, until = time.perf_counter(), time.perf_counter() + 2
    fake_fleet.stalled_until = until
    run = begun.end()
    assert run.summary is not None, run.told
    (chats,) = run.summary.of("chat")
    assert chats.answered == chats.sent == len(fake_fleet.of(CHATS))
    during = sum(stalled < each.at < until for each in fake_fleet.of(CHATS))
    assert during == pytest.approx(60, abs=30), "the load went on"
    assert 1.5 < chats.metrics["end_to_end_s"].p99 < 3.5
    assert chats.metrics["end_to_end_s"].p95 > 1.2
    assert 1.5 < chats.metrics["time_to_first_s"].max < 3.5
    assert chats.metrics["lag_s"].p99 < 0.5, "requests were sent on time"


def test_what_is_over_the_bound_in_flight_is_unsent_and_never_dropped_in_silence(
    fake_fleet: FakeFleet, tmp_path: Path
) -> None:
    fake_fleet.stalled_until = time.perf_counter() + 60
    fake_fleet.tasks = ("chat",)
    begun = Locust(
        tmp_path,
        fake_fleet.url,
        *("--headless", "--spawn-rate", "100", "--users", "20", "--run-time", "3s", "--max-in-flight", "4"),
    )
    wait_until("as many requests as may be are in flight", lambda: len(fake_fleet.of(CHATS)) == 4)
    time.sleep(4)
    fake_fleet.stalled_until = 0.0
    run = begun.end()
    assert run.code == 1
    assert run.summary is not None
    assert run.totals["unsent"] > 10
    assert run.totals["sent"] == run.totals["answered"] == len(fake_fleet.of(CHATS)) == 4
    due = run.totals["unsent"] + run.totals["sent"]
    assert due == round(run.summary.offered_per_second * run.summary.seconds)
    assert run.row(CHATS, "UNSENT")["num_failures"] == run.totals["unsent"]
    assert f"{run.totals['unsent']} requests were due and not sent" in run.told


def test_what_is_in_flight_at_the_end_is_waited_for_and_else_told(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    fake_fleet.gap_s = 0.5  # an answer takes three seconds
    usual = ("--users", "10", "--run-time", "3s", "--modalities", "chat")
    drained = locust(tmp_path, fake_fleet.url, *usual)
    assert drained.totals["answered"] == drained.totals["sent"] == len(fake_fleet.of(CHATS))
    seen = len(fake_fleet.of(CHATS))
    cut = locust(tmp_path, fake_fleet.url, *usual, "--stop-timeout", "0")
    assert cut.totals["sent"] == len(fake_fleet.of(CHATS)) - seen
    assert cut.summary is not None
    assert cut.summary.totals.in_flight > 5
    assert f"{cut.summary.totals.in_flight} requests were still in flight" in cut.told


@pytest.mark.slow
def test_workers_send_each_line_of_a_trace_once_and_their_counts_add_up(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    fake_fleet.gap_s = 0.2  # the last answers come after the last request
    lines = [f"{number * 0.05},{'chat' if number % 3 else 'completion'},{1000 + number}" for number in range(60)]
    (tmp_path / "trace.csv").write_text("\n".join(["seconds,modality,output_tokens", *lines]) + "\n")
    run = locust(tmp_path, fake_fleet.url, "--trace", str(tmp_path / "trace.csv"), workers=2)
    assert (run.code, run.workers) == (0, (0, 0)), run.told
    sent = [each for each in fake_fleet.requests if each.path != "/v1/models"]
    assert Counter(each.body["max_tokens"] for each in sent) == Counter(range(1000, 1060))
    assert run.totals == {"sent": 60, "answered": 60, "good": 60}
    assert run.summary is not None
    assert (run.summary.arrivals, run.summary.of("chat")[0].sent) == ("trace", 40)
    assert run.summary.of("chat")[0].metrics["end_to_end_s"].count == 40
    assert run.row(CHATS)["num_requests"] == 40
    first = min(each.at for each in sent)
    late = [each.at - first - (each.body["max_tokens"] - 1000) * 0.05 for each in sent]
    assert max(late) < 1.5, "each line at its time"


@pytest.mark.slow
def test_workers_share_a_drawn_load_and_reports_on_the_way_count_nothing_twice(
    fake_fleet: FakeFleet, tmp_path: Path
) -> None:
    """Workers report every three seconds."""
    run = locust(
        tmp_path,
        fake_fleet.url,
        *("--users", "12", "--run-time", "5s", "--modalities", "chat,score", "--seed", "7"),
        workers=2,
    )
    assert run.code == 0, run.told
    assert run.summary is not None
    for path, modality in ((CHATS, "chat"), ("/v1/scores", "score")):
        (group,) = run.summary.of(modality)
        assert group.sent == group.answered == len(fake_fleet.of(path)) == run.row(path)["num_requests"] > 0
    assert run.summary.offered_per_second == pytest.approx(12, rel=0.45)
    assert len(fake_fleet.of(IMAGES)) == 1, "the master alone asked for images to score"


def test_users_of_a_closed_loop_wait_for_their_answers(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    """`SIGTERM` ends a test that has no time of its own."""
    begun = Locust(
        tmp_path,
        fake_fleet.url,
        *("--headless", "--users", "2", "--spawn-rate", "2", "--arrivals", "closed", "ChatUser"),
    )
    wait_until("people chat", lambda: len(fake_fleet.of(CHATS)) > 8)
    begun.stop()
    run = begun.end()
    assert run.code == 0, run.told
    assert run.row(CHATS)["num_failures"] == 0
    assert run.totals["answered"] == run.totals["sent"] == len(fake_fleet.of(CHATS)) == run.row(CHATS)["num_requests"]
    assert {name for kind, name in run.rows if kind == "POST"} == {CHATS}
    assert run.summary is not None
    assert run.summary.arrivals == "closed"
    answer_s = (TOKENS + 1) * fake_fleet.gap_s
    times = sorted(each.at for each in fake_fleet.of(CHATS))
    assert all(third - first > answer_s for first, third in zip(times, times[2:], strict=False)), "two at a time"


def test_a_shape_changes_the_load_in_its_steps(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    run = locust(
        tmp_path,
        fake_fleet.url,
        *("--users", "60", "--run-time", "6s", "--modalities", "chat", "--seed", "3"),
        *("--shape", "step", "--shape-steps", "2", "--shape-base", "5"),
    )
    assert run.code == 0, run.told
    assert run.summary is not None
    assert run.summary.shape == "step"
    first = min(each.at for each in fake_fleet.of(CHATS))
    seconds = Counter(int(each.at - first) for each in fake_fleet.of(CHATS))
    assert seconds[0] + seconds[1] < 30 < seconds[3] + seconds[4]


@pytest.mark.parametrize(
    ("arguments", "message", "workers"),
    [
        (("--modalities", "talk"), "modalities are chat, ", 0),
        (NO_SUCH_MODEL, "no model of --model no-such-model does chat; these do:", 0),
        (NO_SUCH_MODEL, "no model of --model no-such-model does chat; these do:", 1),
    ],
)
def test_a_test_that_cannot_be_run_says_why_and_ends(
    fake_fleet: FakeFleet, tmp_path: Path, arguments: tuple[str, ...], message: str, workers: int
) -> None:
    run = locust(tmp_path, fake_fleet.url, "--users", "1", "--run-time", "30s", *arguments, workers=workers)
    assert run.code == 1
    assert message in run.told
    assert run.summary is None
    assert not fake_fleet.of(CHATS)


def test_a_person_runs_a_test_from_locusts_page(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    begun = Locust(tmp_path, fake_fleet.url, "--web-host", "127.0.0.1", "--web-port", str(port))
    with httpx.Client(base_url=page, trust_env=False, timeout=20) as client:

        def is_up() -> bool:
            try:
                return "per_user" in client.get("/").text
            except httpx.TransportError:
                return False

        wait_until("the page is there with the options", is_up)
        form = {"user_count": "10", "spawn_rate": "100", "host": fake_fleet.url, "modalities": "chat", "max_tokens": ""}
        assert client.post("/swarm", data=form).json()["success"] is True
        wait_until("people chat", lambda: len(fake_fleet.of(CHATS)) > 5)
        assert client.post("/stop").json()["success"] is True
    wait_until("the summary is written", (tmp_path / "summary.json").exists)
    begun.stop()
    run = begun.end()
    assert run.totals["answered"] == run.totals["sent"] == len(fake_fleet.of(CHATS))


def test_bursts_reach_the_server_as_bursts(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    run = locust(
        tmp_path,
        fake_fleet.url,
        *("--users", "20", "--run-time", "4s", "--modalities", "chat", "--arrivals", "bursts", "--seed", "4"),
    )
    assert run.code == 0, run.told
    times = sorted(each.at for each in fake_fleet.of(CHATS))
    gaps = [after - before for before, after in pairwise(times)]
    assert sum(gap < 0.02 for gap in gaps) > 0.6 * len(gaps)
    assert max(gaps) > 0.2
