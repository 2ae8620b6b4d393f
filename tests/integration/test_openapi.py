"""What `/openapi.json` promises holds on a fleet that is busy with other requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from services.gateway.routes_items import OPERATIONS
from tests.integration.conftest import LocalFleet
from tests.unit.gateway.image_fakes import PNG, URL
from tests.unit.gateway.truths import TRUTHS

MODELS = ("llama", "qwen")
# What each draws, by any request that gives nothing else but what every model has.
PAINTERS = {"emoji": "red heart", "digits": "7"}
COMMON = {"model", "prompt", "start", "end", "image", "n", "frames", "seed", "stream", "output_format", "user"}
# No example knows the id of something that is there; no model here was trained by this project, and has a card.
REFERS_TO_STORED = ("{file_id}", "{batch_id}", "POST /v1/batches", "/v1/cards/")
# No example is a picture, a record or a word that a model of them takes: the tests of families and of audio ask.
OF_CONTENT = frozenset(operation.path for operation in OPERATIONS) | {"/v1/audio/speech", "/v1/audio/generations"}
EXAMPLES = {GenerationMode.POSITIVE: 12, GenerationMode.NEGATIVE: 8}  # of each operation


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
    statuses: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # its only parameter takes any text: there is nothing to violate
        if mode is GenerationMode.POSITIVE and operation.path in OF_CONTENT:
            continue

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
                _ease(case)
            status = case.call_and_validate(checks=checks, timeout=60).status_code
            statuses.setdefault(case.operation.label, set()).add(status)

        check()
    answered = {label for label, seen in statuses.items() if httpx.codes.OK in seen}
    possible = {label for label in statuses if not any(word in label for word in REFERS_TO_STORED)}
    assert answered == (possible if mode is GenerationMode.POSITIVE else set())


def _aim(case: schemathesis.Case) -> None:
    """Name a model that exists, for most examples would end at one that does not. A name that is wrong stays."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("model"), str) and 0 < len(body["model"]) <= 256:
        known = (*(PAINTERS if _is_drawn(case) else MODELS), "absent")
        body["model"] = known[len(str(body)) % len(known)]


def _is_drawn(case: schemathesis.Case) -> bool:
    return case.path.startswith(("/v1/images/", "/v1/interpolations"))


def _bound(case: schemathesis.Case) -> None:
    """Ask for little work."""
    body = case.body
    if not isinstance(body, dict):
        return
    if case.path.endswith("completions"):
        _cap(body, max_tokens=8, n=2)
        body.pop("max_completion_tokens", None)
    elif case.path == "/v1/responses":
        _cap(body, max_output_tokens=8)
    elif case.path.startswith("/v1/images/"):
        _cap(body, n=2, steps=4)
    elif _is_drawn(case):
        _cap(body, frames=3, steps=4)


def _cap(body: dict[str, Any], **most: int) -> None:
    for name, cap in most.items():
        given = cap if body.get(name) is None else body[name]  # null is left out: it may stand for very much
        if isinstance(given, int):
            body[name] = min(given, cap)


def _ease(case: schemathesis.Case) -> None:
    """Make every other example one that a model can answer: few texts are pictures, prompts or names of models."""
    body = case.body
    if "model_id" in case.path_parameters and len(case.path_parameters["model_id"]) % 2:
        case.path_parameters["model_id"] = MODELS[0]
    if not isinstance(body, dict) or len(str(body)) % 2:
        return
    if case.path == "/v1/completions":
        body.clear()
        body.update(model=MODELS[0], prompt="The spring", max_tokens=8)
    if case.path == "/v1/chat/completions":
        body.clear()
        body.update(model=MODELS[0], messages=[{"role": "user", "content": "The spring"}], max_tokens=8)
    if case.path == "/v1/responses":
        body.clear()
        body.update(model=MODELS[0], input="The spring", max_output_tokens=8)
    if not _is_drawn(case):
        return
    for name in body.keys() - COMMON:
        del body[name]
    # Not every family draws from a picture.
    body["model"] = "emoji" if "image" in body else tuple(PAINTERS)[len(str(body)) // 2 % len(PAINTERS)]
    prompt = {"prompt": PAINTERS[body["model"]]}
    if case.path == "/v1/interpolations":
        body["start"], body["end"] = ({"seed": seed, **prompt} for seed in (1, 2))
    else:
        body.update(prompt)
    if "image" in body:
        body["image"] = PNG if case.media_type == "multipart/form-data" else URL
