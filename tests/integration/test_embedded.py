"""The fleet of the repository's own models.yaml, from fetching its model to an answer that makes sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services import fleet
from shared.config.settings import Settings
from tests.integration.conftest import LocalFleet

MODELS = Path(__file__).parents[2] / "models.yaml"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
MODEL = "smollm2-135m-instruct"
GREEDY = {"max_tokens": 24, "temperature": 0.0}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it fetches 90 MB


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, port=0)
    state = fleet.up(MODELS, name="embedded", settings=settings, on_progress=print)
    try:
        yield LocalFleet(state, settings, MODELS, home)
    finally:
        fleet.down("embedded", home)


def test_the_embedded_model_asked_for_its_likeliest_answer_knows_the_capital_of_france(embedded: LocalFleet) -> None:
    """Greedy: sampled, so small a model strays from the answer every other time."""
    with embedded.openai() as client:
        whole = client.chat.completions.create(model=MODEL, messages=QUESTION, **GREEDY)
        stream = client.chat.completions.create(model=MODEL, messages=QUESTION, **GREEDY, stream=True)
        streamed = "".join(piece.choices[0].delta.content or "" for piece in stream)
    assert whole.choices[0].message.content == streamed
    assert "Paris" in streamed
