"""Every model of the repository's own models.yaml answers on one machine, within 12 GiB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from services import fleet
from services.app import load_fleet_config
from shared.config.base import ModelConfig
from shared.config.settings import Settings
from tests.integration.conftest import LocalFleet, Tell

MODELS_YAML = Path(__file__).parents[2] / "models.yaml"
MODELS = {
    model.id: (service.family, model) for service in load_fleet_config(MODELS_YAML).hosted for model in service.models
}
MOST_MEMORY = 12 * 2**30  # bytes resident, of all processes of the fleet
# A small request of each task, by what it needs beside the model's name. Whether a decoder chats, its checkpoint says.
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "completion": ("/v1/completions", {"prompt": "The ", "max_tokens": 8}),
    "embedding": ("/v1/embeddings", {"input": ["a spring", "a well"]}),
    "image": ("/v1/images/generations", {}),
    "record": ("/v1/records/generations", {"n": 3}),
    "level": ("/v1/levels/generations", {"n": 1}),
    "forecast": ("/v1/forecasts", {"input": {"values": [float(i % 12) for i in range(48)]}, "horizon": 4}),
    "music": ("/v1/music/generations", {"bars": 8}),
    "molecule": ("/v1/molecules/generations", {"n": 3}),
    "speech": ("/v1/audio/speech", {"input": "one two", "voice": "allison", "response_format": "wav"}),
    "sound": ("/v1/audio/generations", {"prompt": "kick"}),
}
PROMPTS = {"digits": "7", "emoji": ""}  # of images, by what the model's name begins with

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # it fetches 180 MB


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, port=0)
    state = fleet.up(MODELS_YAML, name="zoo", settings=settings, on_progress=print)
    try:
        yield LocalFleet(state, settings, MODELS_YAML, home)
    finally:
        fleet.down("zoo", home)


def request_of(model: ModelConfig) -> tuple[str, dict[str, Any]]:
    """The path and the body of the first thing that the model does and that generates."""
    task = next(task for task in model.does if task in ASKED)
    path, body = ASKED[task]
    if task == "image":
        body = {"prompt": PROMPTS[model.id.partition("-")[0]]}
    return path, {"model": model.id, **body}


def ask(zoo: LocalFleet, model: ModelConfig) -> None:
    path, body = request_of(model)
    with httpx.Client(base_url=zoo.url, trust_env=False, timeout=300) as client:
        while True:
            answer = client.post(path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            # The model is still being fetched or loaded, and the refusal says for how much longer.
            assert answer.json()["error"]["code"] == "model_loading", answer.text
            time.sleep(float(answer.headers["retry-after"]))
    assert answer.status_code == httpx.codes.OK, (model.id, answer.text)
    assert answer.content


def resident(zoo: LocalFleet) -> int:
    """Bytes: the proportional set size, so that a library that processes share counts once."""
    total = 0
    for process in zoo.processes():
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def test_every_model_answers_in_turn_then_five_families_at_once_within_the_memory(zoo: LocalFleet, tell: Tell) -> None:
    for _, model in MODELS.values():
        ask(zoo, model)
    with zoo.http() as client:
        states = {each["id"]: each["state"] for each in client.get("/v1/models").raise_for_status().json()["data"]}
    assert states.keys() == MODELS.keys()
    in_turn = resident(zoo)
    one_each = dict(MODELS.values())
    five = ("transformer", "recurrent", "autoregressive", "diffusion", "vae")
    with ThreadPoolExecutor(len(five)) as pool:
        list(pool.map(lambda family: ask(zoo, one_each[family]), five))
    at_once = resident(zoo)
    tell(
        f"{len(MODELS)} models: {in_turn / 2**30:.1f} GiB resident after all had answered in turn, "
        f"{at_once / 2**30:.1f} GiB after five families at once"
    )
    assert max(in_turn, at_once) < MOST_MEMORY
