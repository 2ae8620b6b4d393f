from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _other_tests_objects_are_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pool searches everything for garbage as a model goes: seconds, among the objects of 2,000 tests."""
    gc.freeze()
    monkeypatch.setattr("services.collector.gc.unfreeze", lambda: None)
    yield
    monkeypatch.undo()
    gc.unfreeze()
