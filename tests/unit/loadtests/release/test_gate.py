"""What a release is judged by: bounds, the last accepted run, and what can say nothing of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loadtests.release import gate, load, profile
from loadtests.release.load import Load
from loadtests.release.profile import Profile, ProfileError
from loadtests.release.verdict import Figure, judge
from loadtests.summary import Counters, Distribution, Group, Summary

PROFILE = """
description: two bounds
tolerance: 0.2
stages:
  - name: steady
    load: {per_second: 2, seconds: 1, modalities: chat}
    bounds:
      chat: {goodput: 0.9, error_budget: 0.02, refused: 0.1, metrics: {time_to_first_s: {p95: 1.5}}}
"""


def summary(*, good: int = 95, refused: int = 3, truncated: int = 0, p95: float = 1.0, cpu: float = 0.1) -> Summary:
    sent = 100
    counts = Counters(sent=sent, answered=sent - refused - truncated, refused=refused, truncated=truncated, good=good)
    waited = Distribution(count=97, mean=0.5, p50=0.4, p95=p95, p99=2 * p95, max=3 * p95)
    group = Group(modality="chat", model="m", units=500, metrics={"time_to_first_s": waited}, **counts.model_dump())
    return Summary(
        host="http://fleet",
        started=datetime.now(UTC),
        seconds=50,
        seed=0,
        arrivals="poisson",
        shape=None,
        offered_per_second=2,
        generator_cpu_share=cpu,
        groups=[group],
        totals=counts,
    )


@pytest.fixture
def wanted(tmp_path: Path) -> Profile:
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE)
    return profile.read(str(path))


def missed(wanted: Profile, now: Summary, before: Summary | None = None) -> dict[str, Figure]:
    figures = judge(wanted, {"steady": now}, {} if before is None else {"steady": before})
    assert [figure.name for figure in figures] == ["goodput", "error budget", "refused", "time_to_first_s p95"]
    return {figure.name: figure for figure in figures if not figure.passed}


def test_a_run_within_its_bounds_passes(wanted: Profile) -> None:
    assert missed(wanted, summary()) == {}
    assert missed(wanted, summary(), summary()) == {}


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({"good": 89}, "goodput", "wanted at least 0.9"),
        ({"truncated": 3}, "error budget", "wanted at most 0.02"),
        ({"refused": 11}, "refused", "wanted at most 0.1"),
        ({"p95": 1.6}, "time_to_first_s p95", "wanted at most 1.5"),
    ],
)
def test_a_figure_out_of_its_bound_fails_with_the_bound(
    wanted: Profile, change: dict[str, Any], name: str, reason: str
) -> None:
    found = missed(wanted, summary(**change))
    assert {each: figure.reason for each, figure in found.items()} == {name: reason}


def test_a_figure_that_is_much_worse_than_in_the_last_accepted_run_fails_though_it_keeps_its_bound(
    wanted: Profile,
) -> None:
    found = missed(wanted, summary(p95=1.4), summary(p95=1.0))
    assert found["time_to_first_s p95"].reason == "was 1 in the last accepted run, 20% may change"
    assert missed(wanted, summary(p95=1.15), summary(p95=1.0)) == {}, "that is within the tolerance"
    assert missed(wanted, summary(p95=0.015), summary(p95=0.001)) == {}, "milliseconds are noise"


def test_what_was_never_measured_keeps_no_bound(wanted: Profile) -> None:
    nothing = summary().model_copy(update={"groups": []})
    assert {figure.reason for figure in missed(wanted, nothing).values()} == {"nothing was measured"}
    assert len(missed(wanted, nothing)) == 4


def test_a_star_bounds_all_modalities_together(wanted: Profile) -> None:
    stage = wanted.stages[0]
    all_of = wanted.model_copy(update={"stages": [stage.model_copy(update={"bounds": {"*": stage.bounds["chat"]}})]})
    run = summary()
    cut_off = run.groups[0].model_copy(update={"modality": "image", "answered": 87, "truncated": 10, "good": 80})
    found = missed(all_of, run.model_copy(update={"groups": [*run.groups, cut_off]}))
    assert {name: figure.got for name, figure in found.items()} == {"goodput": 175 / 200, "error budget": 10 / 200}


def test_requests_that_the_generator_could_not_send_count_against_the_error_budget(wanted: Profile) -> None:
    run = summary()
    unsent = run.groups[0].model_copy(update={"unsent": 10})
    assert "error budget" in missed(wanted, run.model_copy(update={"groups": [unsent]}))


def test_requests_that_never_end_count_against_the_error_budget(wanted: Profile) -> None:
    run = summary()
    hung = run.groups[0].model_copy(update={"answered": run.groups[0].answered - 5})
    assert hung.counters.in_flight == 5
    assert "error budget" in missed(wanted, run.model_copy(update={"groups": [hung]}))


Runs = Callable[[Load], Summary]


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Summary], None]:
    """Let every load end with this summary."""
    monkeypatch.chdir(tmp_path)

    def play(ended: Summary) -> None:
        monkeypatch.setattr(load, "run", lambda *_, **__: ended)

    return play


def exit_status(*arguments: str) -> int:
    try:
        gate.main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_exit_status_and_the_table_say_what_was_missed(
    wanted: Profile, plays: Callable[[Summary], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plays(summary(p95=1.6))
    assert exit_status("--profile", "mine.yaml", "--out", "report") == 1
    shown = capsys.readouterr().out
    assert "not to be released: 1 of 4" in shown
    assert "wanted at most 1.5" in shown
    report = (tmp_path / "report" / "report.md").read_text()
    assert "| steady | chat | time_to_first_s p95 | 1.6 | ≤ 1.5 |  | no | wanted at most 1.5 |" in report
    assert "| steady | 2.00 | 97 of 100 | 10.0 | 10% |" in report


def test_only_a_run_that_passed_becomes_what_the_next_is_compared_with(
    wanted: Profile, plays: Callable[[Summary], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "castalia-loadtest-mine.json"
    plays(summary(p95=1.6))
    assert exit_status("--profile", "mine.yaml", "--accept") == 1
    assert not baseline.exists()
    plays(summary(p95=0.5))
    assert exit_status("--profile", "mine.yaml") == 0
    assert not baseline.exists(), "it was not asked for"
    assert exit_status("--profile", "mine.yaml", "--accept") == 0
    plays(summary(p95=1.0))
    assert exit_status("--profile", "mine.yaml", "--accept") == 1, "twice as slow as accepted"
    assert "was 0.5 in the last" in capsys.readouterr().out
    assert gate.read_runs(baseline)["steady"].groups[0].metrics["time_to_first_s"].p95 == 0.5


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (summary(cpu=0.95), "95% of a core, of at most 80%"),
        (summary().model_copy(update={"totals": Counters()}), "nothing was sent"),
    ],
)
def test_a_run_that_says_nothing_of_the_fleet_is_not_judged(
    ended: Summary,
    said: str,
    wanted: Profile,
    plays: Callable[[Summary], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    plays(ended)
    assert exit_status("--profile", "mine.yaml") == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_a_baseline_that_cannot_be_read_is_said_before_anything_is_loaded(
    wanted: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text('{"steady": 1}')
    assert exit_status("--profile", "mine.yaml", "--baseline", "old.json") == 2
    assert "old.json is not an accepted run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROFILE.replace("goodput", "godput"), "stages.0.bounds.chat.godput"),
        (PROFILE.replace("per_second: 2", "per_second: 2, clients: 3"), "give per_second (open loop) or clients"),
        (PROFILE.replace("0.9", "1.9"), "stages.0.bounds.chat.goodput"),
        ("description: [", "mine.yaml"),
    ],
)
def test_a_wrong_profile_is_refused_with_the_place(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=said.replace("(", r"\(").replace(")", r"\)")):
        profile.read(str(path))


def test_an_unknown_profile_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ProfileError, match="'nightly': one of release, smoke, soak, or a YAML file"):
        profile.read("nightly")


@pytest.mark.parametrize("name", profile.names())
def test_our_own_profiles_are_ones(name: str) -> None:
    assert profile.read(name).seconds > 0


def test_a_load_becomes_locusts_options() -> None:
    asked = Load(per_second=5, seconds=30, modalities="chat=2,image=1", shape="ramp", processes=2, ignore_eos=True)
    options = set(asked.options)
    assert {"--users=20", "--per-user=0.25", "--run-time=30s", "--shape=ramp", "--processes=2"} <= options
    assert {"--modalities=chat=2,image=1", "--ignore-eos"} <= options
    assert set(Load(clients=4).options) >= {"--users=4", "--arrivals=closed"}
