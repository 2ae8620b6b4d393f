"""What `/openapi.json` promises holds on a fleet that is busy with other requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import LocalFleet
from tests.unit.gateway.test_openapi import TRUTHS

MODELS = ("llama", "qwen")


@pytest.fixture
def busy(local_fleet: LocalFleet) -> Iterator[None]:
    """Streams that run meanwhile."""
    over = threading.Event()

    def ask(model: str) -> None:
        body = {"model": model, "prompt": ["a"] * 4, "max_tokens": 200, "ignore_eos": True}
        with local_fleet.http() as client:
            while not over.is_set():
                statuses.add(client.post("/v1/completions", json=body).status_code)

    statuses: set[int] = set()
    asking = [threading.Thread(target=ask, args=(model,)) for model in MODELS]
    for thread in asking:
        thread.start()
    yield
    over.set()
    for thread in asking:
        thread.join()
    assert statuses == {httpx.codes.OK}, "the requests beside the examples were harmed"


@pytest.mark.usefixtures("busy")
def test_no_answer_of_a_busy_fleet_is_undocumented(local_fleet: LocalFleet) -> None:
    schema = schemathesis.openapi.from_url(f"{local_fleet.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    cases = st.one_of([operation.as_strategy() for operation in operations])
    paths: set[str] = set()

    @given(case=cases)
    @settings(
        max_examples=120,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        paths.add(case.operation.label)
        _name_a_model(case)
        case.call_and_validate(checks=TRUTHS, timeout=60)

    check()
    assert paths == {operation.label for operation in operations}, "some operation was never asked"


def _name_a_model(case: schemathesis.Case) -> None:
    """Otherwise every example would end at a model that does not exist; every third still does."""
    if isinstance(case.body, dict) and "model" in case.body:
        known = list(chain(MODELS, ["absent"]))
        case.body["model"] = known[len(str(case.body)) % len(known)]
        if isinstance(case.body.get("max_tokens"), int):
            case.body["max_tokens"] = min(case.body["max_tokens"], 8)
