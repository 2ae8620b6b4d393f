"""The search for the highest load that is kept."""

from __future__ import annotations

import pytest

from loadtests.objectives import Objective
from loadtests.release.capacity import MOST_PROBES, Probe, capacity_of, search


def probe_of(rate: float, *, holds: float, is_limited: bool = False) -> Probe:
    kept = rate <= holds
    return Probe(
        per_second=rate, goodput=1.0 if kept else 0.5, units_per_second=10 * rate, is_limited=is_limited, kept=kept
    )


@pytest.mark.parametrize("holds", [0.013, 0.9, 1.0, 7.3, 410.0])
def test_the_highest_rate_that_is_kept_is_found_within_the_precision(holds: float) -> None:
    probes = list(search(lambda rate: probe_of(rate, holds=holds), start=1.0, precision=0.1))
    found = capacity_of("chat", "m", 0.95, Objective(), probes)
    assert found.per_second is not None
    assert found.missed_at is not None
    assert found.per_second <= holds < found.missed_at
    assert found.missed_at / found.per_second <= 1.1
    assert [probe.per_second for probe in found.probes] == sorted(probe.per_second for probe in probes)


def test_a_rate_that_the_load_generator_limits_ends_the_search() -> None:
    def try_rate(rate: float) -> Probe:
        return probe_of(rate, holds=1000, is_limited=rate > 5)

    probes = list(search(try_rate, start=1.0, precision=0.1))
    assert [probe.per_second for probe in probes] == [1, 2, 4, 8]


def test_a_model_that_keeps_no_rate_has_no_capacity() -> None:
    probes = list(search(lambda rate: probe_of(rate, holds=0), start=1.0, precision=0.1))
    assert len(probes) == MOST_PROBES
    found = capacity_of("chat", "m", 0.95, Objective(), probes)
    assert found.per_second is None
    assert found.missed_at == probes[-1].per_second


def test_a_rate_over_one_that_was_missed_does_not_count_as_kept() -> None:
    """A lucky probe beyond the limit: what lies between was seen to fail."""
    probes = [probe_of(1, holds=1), probe_of(2, holds=1), probe_of(4, holds=9)]
    assert capacity_of("chat", "m", 0.95, Objective(), probes).per_second == 1
