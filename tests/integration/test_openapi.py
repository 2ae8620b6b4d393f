"""What `/openapi.json` promises holds on a fleet that is busy with other requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.integration.conftest import LocalFleet
from tests.unit.gateway.test_openapi import TRUTHS

MODELS = ("llama", "qwen")
EXAMPLES = {GenerationMode.POSITIVE: 25, GenerationMode.NEGATIVE: 15}  # of each operation


@pytest.fixture(scope="module")
def busy(local_fleet: LocalFleet) -> Iterator[None]:
    """Requests that run meanwhile."""
    over = threading.Event()

    def ask(model: str) -> None:
        body = {"model": model, "prompt": ["a"] * 4, "max_tokens": 50, "ignore_eos": True}
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
@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_no_answer_of_a_busy_fleet_is_undocumented(local_fleet: LocalFleet, mode: GenerationMode) -> None:
    """Whether the request keeps to the schema (positive) or violates it (negative), which must be refused."""
    schema = schemathesis.openapi.from_url(f"{local_fleet.url}/openapi.json")
    checks = [*TRUTHS, negative_data_rejection]
    statuses: set[int] = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # its only parameter takes any text: there is nothing to violate

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES[mode],
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            _aim(case)
            if mode is GenerationMode.POSITIVE:
                _bound(case)
            statuses.add(case.call_and_validate(checks=checks, timeout=60).status_code)

        check()
    assert (httpx.codes.OK in statuses) is (mode is GenerationMode.POSITIVE)


def _aim(case: schemathesis.Case) -> None:
    """Name a model that exists, for most examples would end at one that does not. A name that is wrong stays."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("model"), str) and 0 < len(body["model"]) <= 256:
        known = (*MODELS, "absent")
        body["model"] = known[len(str(body)) % len(known)]


def _bound(case: schemathesis.Case) -> None:
    """Ask for little work."""
    body = case.body
    if isinstance(body, dict) and case.path.endswith("completions"):
        for name, most in (("max_tokens", 8), ("n", 2)):
            if isinstance(body.get(name, most), int):
                body[name] = min(body.get(name, most), most)
        body.pop("max_completion_tokens", None)
