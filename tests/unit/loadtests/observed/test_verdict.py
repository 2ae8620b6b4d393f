"""What has no data and should, and what has some though it is said that it cannot, are found; all else is not."""

from __future__ import annotations

import pytest

from loadtests.observed import verdict
from loadtests.observed.verdict import Answer, faults, standings


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "EMPTY", {"d: never": "there is no device"})
    monkeypatch.setattr(verdict, "SOME", {"d: some": "text alone has tokens"})


def answer(target: str, **lines: int) -> list[Answer]:
    return [Answer("d", f"d: {target}", value, count) for value, count in lines.items()]


WELL = [*answer("always", a=1, b=3), *answer("never", a=0), *answer("some", a=0, b=1)]


def test_a_fleet_that_shows_what_it_should_has_no_fault() -> None:
    found = standings(WELL)
    assert list(faults(found)) == []
    assert [(each.target, each.with_data, each.lines, each.reason) for each in found] == [
        ("d: always", 2, 3, ""),
        ("d: never", 0, 0, "there is no device"),
        ("d: some", 1, 1, "text alone has tokens"),
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (answer("always", a=1, b=0), "d: always: has no data of 'b'"),
        (answer("never", a=1), "d: never: has data, though it is said that it cannot"),
        (answer("some", a=0, b=0), "d: some: has no data"),
    ],
)
def test_each_fault_is_found(change: list[Answer], fault: str) -> None:
    kept = [each for each in WELL if each.target != change[0].target]
    assert list(faults(standings([*kept, *change]))) == [fault]


def test_an_exception_that_no_dashboard_asks_for_is_a_fault() -> None:
    kept = [each for each in WELL if each.target != "d: never"]
    assert list(faults(standings(kept))) == ["d: never: no dashboard asks for it"]
