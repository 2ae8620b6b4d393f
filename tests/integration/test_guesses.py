"""Tokens guessed ahead by a running fleet, as its metrics say."""

from __future__ import annotations

from services.nn.text.params import text_counts
from tests.integration.conftest import LocalFleet

MODEL = "llama"
GUESSES = ("castalia_guessed_tokens_total", "castalia_accepted_tokens_total")


def test_a_text_that_repeats_is_guessed_and_counted(local_fleet: LocalFleet) -> None:
    before = local_fleet.metrics(*GUESSES, model=MODEL)
    body = {"model": MODEL, "prompt": "a", "temperature": 0, "logit_bias": {"70": 100}, "max_tokens": 100}
    with local_fleet.http() as client:
        usage = client.post("/v1/completions", json=body).raise_for_status().json()["usage"]
        shown = client.get("/metrics").text
    guessed, accepted = (
        now - then for now, then in zip(local_fleet.metrics(*GUESSES, model=MODEL), before, strict=True)
    )
    assert usage["completion_tokens"] == 100
    assert 20 < accepted <= guessed
    assert all(f"castalia_{name}_total{{" in shown for name in text_counts().snapshot())
