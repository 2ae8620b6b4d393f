"""How processes share one fleet in tests/integration: here threads stand for them."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from tests.integration.sharing import Company, turn


def test_the_first_of_a_company_makes_ready_and_the_last_puts_away(tmp_path: Path) -> None:
    company = Company(tmp_path)
    for _ in range(2):
        told: list[bool] = []
        for step in (company.join, company.join, company.leave, company.leave):
            with step() as is_alone:
                told.append(is_alone)
        assert told == [True, False, False, True]


def test_who_is_to_be_alone_waits_for_others_and_who_comes_later_waits_for_it(tmp_path: Path) -> None:
    order: list[str] = []
    waits = Event()

    def take(name: str, *, alone: bool = False) -> None:
        waits.set()
        with turn(tmp_path, alone=alone):
            order.append(name)

    with ThreadPoolExecutor(2) as pool:
        with turn(tmp_path, alone=False):
            take("beside")
            waits.clear()
            alone = pool.submit(take, "alone", alone=True)
            assert waits.wait(10)
            while not _is_locked(tmp_path / "gate"):
                pass
            later = pool.submit(take, "later")
            assert order == ["beside"]
        alone.result(10)
        later.result(10)
    assert order == ["beside", "alone", "later"]


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
