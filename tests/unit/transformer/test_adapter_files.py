"""Adapters that cannot be served are refused as they are loaded, by the field or the weight that says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from services.families import LoadedModel
from services.families.transformer.family import load
from services.nn.errors import UnsupportedModel
from shared.config.transformer import AdapterModel, TransformerModel
from tests.adapters import CONFIG, WEIGHTS, change_config, change_weights, make_adapter

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
A, B = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"

FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "another type": ({"peft_type": "IA3"}, "peft_type: only LORA is served, got IA3"),
    "a classifier": ({"task_type": "SEQ_CLS"}, "task_type: only CAUSAL_LM is served"),
    "biases": ({"bias": "lora_only"}, "bias: only none is served, got lora_only"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save: not served"),
    "DoRA": ({"use_dora": True}, "use_dora: not served"),
    "trained tokens": ({"trainable_token_indices": [1]}, "trainable_token_indices: not served"),
    "parameters": ({"target_parameters": ["experts"]}, "target_parameters: not served"),
    "layers used twice": ({"layer_replication": [[0, 1]]}, "layer_replication: not served"),
    "biases of its own": ({"lora_bias": True}, "lora_bias: not served"),
    "what is not known": ({"use_what_comes_next": 1}, "use_what_comes_next: not served"),
    "a changed base": ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa changes the base"),
    "a rank over the bound": ({"r": 513}, "r: the rank is at most 512, got 513"),
    "a rank over the bound by name": ({"rank_pattern": {"q_proj": 1000}}, "rank_pattern: ranks are 1 to 512, got 1000"),
    "no number": ({"lora_alpha": float("nan")}, "lora_alpha: "),
    "no rank": ({"r": 0}, "r: "),
    "no targets": ({"target_modules": None}, "target_modules"),
    "strange targets": ({"target_modules": ["k_projection"]}, "target_modules: no linear layer of its base is meant"),
    "more targets": ({"target_modules": ["q_proj", "k_proj"]}, "target_modules: .*k_proj is meant, and has no weights"),
    "fewer targets": ({"layers_to_transform": [1]}, "target_modules: .*q_proj has weights, and is not meant"),
    "too long an expression": ({"target_modules": "q{9999999999999999999}"}, "target_modules: no regular expression"),
    "no expression": ({"target_modules": "*q_proj"}, "target_modules: no regular expression"),
    "another rank": ({"r": 8}, r"lora_A: expected shape \[8, 64\] by its rank and its base, got \[4, 64\]"),
}
TENSORS: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "half a pair": ({B: None}, "its weights have lora_A alone"),
    "wider than the base": ({A: torch.ones(4, 65)}, r"lora_A: expected shape \[4, 64\] .* got \[4, 65\]"),
    "another output": ({B: torch.ones(63, 4)}, r"lora_B: expected shape \[64, 4\] .* got \[63, 4\]"),
    "no numbers": ({B: torch.full((64, 4), torch.nan)}, "its values are not finite numbers"),
    "integers": ({B: torch.ones(64, 4, dtype=torch.int32)}, "its values are not finite numbers"),
    "an embedding's": (
        {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 4)},
        "an embedding's adapter is not served",
    ),
    "the base's own": ({f"{LAYER}.base_layer.weight": torch.ones(64, 64)}, "it would replace a weight of the base"),
    "a magnitude": ({f"{LAYER}.lora_magnitude_vector": torch.ones(64)}, "only matrices of linear layers are served"),
    "a layer that is not there": (
        {"base_model.model.model.layers.7.q.lora_A.weight": torch.ones(4, 64)}
        | {"base_model.model.model.layers.7.q.lora_B.weight": torch.ones(64, 4)},
        "its base has no such linear layer; it has down_proj, gate_proj",
    ),
}

Refused = Callable[[Path, str], None]


@pytest.fixture(scope="module")
def base(folders: Callable[..., Path]) -> LoadedModel:
    folder = folders("llama")
    return load(TransformerModel(id="base", source=f"file://{folder}", cache_memory=2**24), folder)


@pytest.fixture(scope="module")
def made(folders: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(folders("llama"), tmp_path_factory.mktemp("adapter"), target_modules=["q_proj"])


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """An adapter's folder, to be spoiled."""
    return shutil.copytree(made, tmp_path / "adapter")


@pytest.fixture
def refused(base: LoadedModel) -> Refused:
    def check(folder: Path, message: str) -> None:
        assert base.adapt is not None
        with pytest.raises(UnsupportedModel, match=message):
            base.adapt(AdapterModel(id="a", base="base", adapter="file:///a"), folder)

    return check


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_cannot_be_followed_is_named(refused: Refused, folder: Path, name: str) -> None:
    fields, message = FIELDS[name]
    change_config(folder, **fields)
    refused(folder, f"the adapter cannot be served: .*{message}")


@pytest.mark.parametrize("name", TENSORS)
def test_weights_that_do_not_fit_are_named(refused: Refused, folder: Path, name: str) -> None:
    tensors, message = TENSORS[name]
    change_weights(folder, **tensors)
    refused(folder, f"the adapter cannot be served: .*{message}")


def test_files_that_are_missing_or_broken_are_named(refused: Refused, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"no safetensors")
    refused(folder, "adapter_model.safetensors: it cannot be read")
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    refused(folder, "adapter_model.safetensors: the folder has none; save the adapter as safetensors")
    (folder / CONFIG).write_text("[]")
    refused(folder, "adapter_config.json: ")
    (folder / CONFIG).unlink()
    refused(folder, "adapter_config.json: the folder has none")


def test_what_says_nothing_of_the_result_is_overlooked(base: LoadedModel, folder: Path) -> None:
    change_config(folder, lora_dropout=0.1, peft_version="99", megatron_core="megatron.core", use_what_comes_next=False)
    assert base.adapt is not None
    assert base.adapt(AdapterModel(id="a", base="base", adapter="file:///a"), folder).memory > 0


def test_an_adapter_is_no_source(folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="has it by base and adapter"):
        load(TransformerModel(id="a", source=f"file://{folder}"), folder)
