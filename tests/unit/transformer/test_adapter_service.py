"""A service with adapters, from verified files to events: upon one base, each by its own id, alone and at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.families import family_loader
from services.model_service import ModelService
from services.sources import resolve, write_manifest
from shared.calls import Call
from shared.config.models import FleetConfig
from shared.events import Failed, TextDelta
from shared.reports import ModelReport
from shared.schemas.text import CompletionRequest
from tests.adapters import CONFIG, change_config, make_adapter, peft_answers
from tests.unit.transformer.driver import random_prompts

PROMPT = random_prompts(1, longest=40, seed=9)[0]
NEW = 12


@pytest.fixture(scope="module")
def checkpoints(folders: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Verified folders: a base, two adapters, and one that is not served."""
    base, made = folders("llama"), tmp_path_factory.mktemp("adapters")
    found = {
        name: make_adapter(base, made / name, seed=i, target_modules=["q_proj", "down_proj"])
        for i, name in enumerate(("a", "b", "dora"))
    }
    change_config(found["dora"], use_dora=True)
    for folder in (base, *found.values()):
        write_manifest(folder)
    return {"base": base, **found}


def started(checkpoints: dict[str, Path], home: Path, **changes: Any) -> ModelService:
    bots = [{"id": name, "base": "base", "adapter": f"file://{checkpoints[name]}"} for name in ("a", "b", "dora")]
    base = {"id": "base", "source": f"file://{checkpoints['base']}", "cache_memory": "8MiB", "prefill_tokens": 16}
    entry = {"name": "chat", "family": "transformer", "models": [*bots, base], **changes}
    (config,) = FleetConfig.model_validate({"services": [entry]}).hosted
    return ModelService(config, replica="r", hold_s=30, resolve=partial(resolve, home=home), loader=family_loader)


async def answer(host: ModelService, model: str, tenant: str = "x") -> TextDelta | Failed:
    """The only piece of a whole answer, or its failure."""
    body = CompletionRequest.model_validate(
        {"model": model, "prompt": PROMPT, "max_tokens": NEW, "temperature": 0, "ignore_eos": True}
    )
    call = Call(request_id="req_1", model=model, task="completion", body=body, tenant=tenant)
    events = [event async for batch in host.stream(call) for _, event in batch]
    return next(event for event in events if isinstance(event, TextDelta | Failed))


def reports(host: ModelService) -> dict[str, ModelReport]:
    return {report.model: report for report in host.report().models}


async def test_adapters_load_upon_their_base_and_answer_beside_it(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    host = started(checkpoints, tmp_path)
    await host.start()
    try:
        states = {model: report.state for model, report in reports(host).items()}
        assert states == {"base": "ready", "a": "ready", "b": "ready", "dora": "failed"}
        alone = {model: await answer(host, model) for model in ("base", "a", "b")}
        texts = {model: said.text for model, said in alone.items() if isinstance(said, TextDelta)}
        vocabulary = host._pool.slots["base"].loaded.tasks["completion"].generation.vocabulary
        for model in ("a", "b"):
            (expected,) = peft_answers(checkpoints["base"], checkpoints[model], [PROMPT], NEW)
            assert texts[model] == vocabulary.decode(expected)
        assert len(set(texts.values())) == 3
        together = await asyncio.gather(*(answer(host, model, f"t{i}") for i in range(3) for model in texts))
        assert [said.text for said in together if isinstance(said, TextDelta)] == [*texts.values()] * 3
        found = reports(host)
        assert [found[model].finished["length"] for model in texts] == [4, 4, 4]
        assert found["a"].memory < found["base"].memory / 100
        assert found["a"].limits == found["base"].limits
        failed = await answer(host, "dora")
        assert isinstance(failed, Failed)
        assert failed.status == 503
    finally:
        await host.stop()


async def test_a_changed_file_of_an_adapter_is_refused_while_its_base_answers(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    config = checkpoints["b"] / CONFIG
    kept = config.read_bytes()
    change_config(checkpoints["b"], lora_alpha=9)
    host = started(checkpoints, tmp_path)
    try:
        await host.start()
        assert {model: report.state for model, report in reports(host).items()} == {
            "base": "ready",
            "a": "ready",
            "b": "failed",
            "dora": "failed",
        }
        assert isinstance(await answer(host, "base"), TextDelta)
    finally:
        config.write_bytes(kept)
        await host.stop()
