"""What `/openapi.json` promises holds on a fleet that is busy with other requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

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
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=25,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            _aim(case)
            case.call_and_validate(checks=TRUTHS, timeout=60)

        check()


def _aim(case: schemathesis.Case) -> None:
    """Name a model that exists, for most examples would end at one that does not, and ask for little work."""
    body = case.body
    if not isinstance(body, dict) or "model" not in body:
        return
    known = (*MODELS, "absent")
    body["model"] = known[len(str(body)) % len(known)]
    if case.path.endswith("completions"):
        for field, most in (("max_tokens", 8), ("n", 2)):
            if isinstance(body.get(field, most), int):
                body[field] = min(body.get(field, most), most)
        body.pop("max_completion_tokens", None)
