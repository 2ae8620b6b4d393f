"""Entries of models.yaml with a base and an adapter: what they may say, and what a fleet knows of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.app import serve_config
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.config.transformer import AdapterModel

BASE = {"id": "base", "source": "pypi://weights==1.0/folder"}
BOT = {"id": "bot", "base": "base", "adapter": "hf://org/lora@v1"}


def fleet(*models: dict[str, Any], **others: Any) -> FleetConfig:
    services = [{"name": "chat", "family": "transformer", "models": models}]
    services += [{"name": name, "family": "transformer", "models": [model]} for name, model in others.items()]
    return FleetConfig.model_validate({"services": services})


def test_an_adapter_is_a_model_with_a_source_a_revision_and_a_base() -> None:
    config = fleet(BOT, BASE)
    bot = config.hosted[0].models[0]
    assert isinstance(bot, AdapterModel)
    assert (bot.based_on, bot.revision, bot.does) == ("base", "v1", ("chat", "completion", "tokenize", "detokenize"))
    assert config.sources == {"bot": BOT["adapter"], "base": BASE["source"]}
    assert config.hosted[0].models[1].based_on is None


def test_it_may_say_how_it_samples_and_chats_and_what_it_is_licensed_as() -> None:
    said = {"sampling": {"temperature": 0.2}, "conversation": "none", "license": "mit"}
    bot = fleet(BASE, {**BOT, **said}).hosted[0].models[1]
    assert isinstance(bot, AdapterModel)
    assert bot.sampling is not None
    assert (bot.sampling.temperature, bot.license, "chat" in bot.does) == (0.2, "mit", False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "file:///x"}, "has no source: that is its base's to say"),
        ({"cache_memory": "1MiB", "dtype": "float16"}, "has no cache_memory, dtype: that is its base's to say"),
        ({"context_length": 64}, "has no context_length"),
        ({"adapter": "/x"}, "adapter"),
        ({"base": "other"}, "its base other is no model of service chat"),
        ({"base": "elsewhere"}, "its base elsewhere is no model of service chat"),
        ({"base": "bot"}, "its base bot is of kind adapter, not a decoder"),
        ({"base": "bert"}, "its base bert is of kind masked, not a decoder"),
        ({"nonsense": 1}, "nonsense"),
        ({"kind": "lora"}, "kind is decoder, adapter, encoder_decoder, masked or embedding"),
    ],
)
def test_what_an_adapter_cannot_say_is_refused(changes: dict[str, Any], message: str) -> None:
    bert = {"id": "bert", "kind": "masked", "source": "file:///bert"}
    with pytest.raises(ValidationError, match=message):
        fleet(BASE, bert, {**BOT, **changes}, other={"id": "elsewhere", "source": "file:///x"})


def test_what_vllm_runs_is_no_base() -> None:
    with pytest.raises(ValidationError, match="base must be its service's only model"):
        fleet({**BASE, "engine": "vllm", "device": "cuda"}, BOT)


@pytest.mark.parametrize("missing", ["base", "adapter"])
def test_base_and_adapter_need_each_other(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        fleet(BASE, {key: value for key, value in BOT.items() if key != missing})


def test_replicas_are_given_the_entry_as_it_was_written() -> None:
    applications = serve_config(fleet(BASE, BOT), Settings())["applications"]
    (service,) = [each for each in applications if each["name"] == "chat"]
    written = service["deployments"][0]["user_config"]
    assert written["models"] == [BASE, BOT]
    assert FleetConfig.model_validate({"services": [written]}) == fleet(BASE, BOT)
