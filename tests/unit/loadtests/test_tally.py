"""The sum of outcomes: over one process, and over many."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import msgpack
import pytest
from pydantic import ValidationError

from loadtests.generator.tally import Meter, Tally
from loadtests.outcomes import Outcome, Reply, Verdict
from loadtests.summary import Counters, Distribution, Group, Metric, Summary
from tests.unit.loadtests.test_outcomes import outcome


def answers(count: int, seed: int = 0) -> list[Outcome]:
    rng = Random(seed)
    made: list[Outcome] = []
    for _ in range(count):
        at = rng.uniform(0, 60)
        times = sorted(at + rng.expovariate(2) for _ in range(6))
        gaps = tuple(b - a for a, b in pairwise(times[1:]))
        made.append(outcome(due=at, started=times[0], first=times[1], gaps=gaps, ended=times[-1], units=5.0))
    return made


def tally_of(outcomes: list[Outcome]) -> Tally:
    tally = Tally()
    for each in outcomes:
        tally.sent(each.modality, each.model)
        tally.ended(each, good=each.answered)
    return tally


def test_quantiles_are_within_a_thousandth_and_the_rest_is_exact() -> None:
    found = answers(2000)
    (group,) = tally_of(found).groups()
    measured: dict[Metric, list[float]] = {
        "end_to_end_s": [each.end_to_end_s for each in found],
        "lag_s": [each.lag_s for each in found],
        "between_chunks_s": [gap for each in found for gap in each.gaps],
    }
    for name, values in measured.items():
        got: Distribution = group.metrics[name]
        assert got.count == len(values)
        assert got.max == max(values)
        assert got.mean == pytest.approx(sum(values) / len(values))
        for quantile, q in ((got.p50, 0.5), (got.p95, 0.95), (got.p99, 0.99)):
            rank = round(q * len(values)) - 1
            assert quantile == pytest.approx(sorted(values)[rank], rel=1e-3, abs=1e-6)
    assert group.units == 5 * 2000


def test_many_processes_sum_up_to_what_one_would_have_counted() -> None:
    found, total = answers(600), Tally()
    for part in (found[:100], found[100:101], found[101:]):
        dumped = tally_of(part).dump()
        total.add(msgpack.loads(msgpack.dumps(dumped), raw=False))  # as Locust's messages carry it
    one = tally_of(found)
    assert total.due == one.due == 600
    for got, expected in zip(total.groups(), one.groups(), strict=True):
        assert got.counters == expected.counters
        for name, distribution in expected.metrics.items():
            assert got.metrics[name].model_dump() == pytest.approx(distribution.model_dump(), rel=1e-9)


@pytest.mark.parametrize("verdict", ["refused", "late", "truncated", "failed"])
def test_what_is_no_answer_is_counted_and_its_waiting_is_not_measured(verdict: Verdict) -> None:
    (group,) = tally_of([outcome(reply=Reply(verdict, 0, "x", queue_s=1.0))]).groups()
    assert getattr(group, verdict) == group.sent == 1
    assert (group.answered, group.good, group.units) == (0, 0, 0)
    assert set(group.metrics) == {"lag_s"}


def test_what_is_due_and_not_sent_is_counted_apart() -> None:
    tally = tally_of(answers(2))
    tally.unsent("chat", "m")
    (group,) = tally.groups()
    assert (tally.due, group.sent, group.unsent) == (3, 2, 1)


def test_what_has_no_end_is_in_flight() -> None:
    tally = tally_of(answers(2))
    tally.sent("chat", "m")
    (group,) = tally.groups()
    assert (group.sent, group.in_flight) == (3, 1)


def test_modalities_and_models_are_told_apart() -> None:
    unlike = [outcome(), outcome(model="other"), outcome(modality="image"), outcome()]
    groups = {(each.modality, each.model): each.sent for each in tally_of(unlike).groups()}
    assert groups == {("chat", "m"): 2, ("chat", "other"): 1, ("image", "m"): 1}


def test_a_time_that_no_request_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        Meter().record(90_000)


def test_a_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    groups = tally_of(answers(20)).groups()
    summary = Summary(
        host="http://h",
        started="2026-01-01T00:00:00Z",  # pyright: ignore[reportArgumentType]
        seconds=60,
        seed=None,
        arrivals="poisson",
        shape=None,
        offered_per_second=0.3,
        generator_cpu_share=0.1,
        groups=groups,
        totals=Counters.total(group.counters for group in groups),
    )
    summary.write(tmp_path / "deeper" / "summary.json")
    assert Summary.read(tmp_path / "deeper" / "summary.json") == summary
    assert summary.of("chat") == groups
    assert summary.of("image") == []


def test_a_summary_of_another_format_is_refused() -> None:
    with pytest.raises(ValidationError):
        Summary.model_validate({"format": 2})
    with pytest.raises(ValidationError):
        Group(modality="chat", model="m", sent=-1)
