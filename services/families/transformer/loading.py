"""Owns the way from a checkpoint folder to a causal LM that the slot cache can hold, and the refusal of others.

Three gates: what the configuration says; what kind of cache the model itself asks for; and a trial, which compares
the model's plain forward with the same tokens read piece by piece through the slot cache beside another row.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import NewGELUActivation
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from services.families.transformer.forward import CausalLM, SlotForward, Span
from services.families.transformer.shape import architecture
from services.nn.attention import SLOT_ATTENTION, register_slot_attention
from services.nn.cache_budget import CacheBudget, LayerShape
from services.nn.errors import UnsupportedModel
from services.nn.kv_cache import SlotCache

_TRIAL = 12  # tokens
# Largest difference of logits, relative to their spread, that rounding explains: float32 leaves 1e-5.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.05}


def check_causal(config: PreTrainedConfig) -> None:
    """Raises UnsupportedModel for attention that looks ahead."""
    if not getattr(config, "is_causal", True):
        raise UnsupportedModel(architecture(config), "its attention is not causal")


def load_model(folder: Path, config: PreTrainedConfig, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The model in evaluation mode, from local safetensors alone, with the attention of `services.nn.attention`."""
    register_slot_attention()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
        )
    except ValueError as error:
        if "AutoModelForCausalLM" in str(error):
            raise UnsupportedModel(architecture(config), "it is no causal language model") from error
        raise
    model = cast(PreTrainedModel, cast(torch.nn.Module, model).to(device).eval())
    model.requires_grad_(False)
    kind = getattr(model.generation_config, "cache_implementation", None)
    if kind not in (None, "dynamic", "static"):
        raise UnsupportedModel(architecture(config), f"it asks for a cache of kind '{kind}'")
    parameters = inspect.signature(model.forward).parameters
    for needed in ("position_ids", "attention_mask", "past_key_values"):
        if needed not in parameters:
            raise UnsupportedModel(architecture(config), f"its forward takes no {needed}")
    return model


def keeps_logits(model: PreTrainedModel) -> bool:
    """Whether the model can compute the last position's logits alone."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def embedding_rows(model: PreTrainedModel) -> int:
    """How many token ids the model knows; at least as many as its tokenizer, often padded beyond."""
    return cast(torch.nn.Embedding, model.get_input_embeddings()).weight.shape[0]


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_of_turn: int | None) -> frozenset[int]:
    """Every id that ends an answer: the model's, the tokenizer's, and what a chat's turns end with."""
    return ids_of(
        getattr(model.generation_config, "eos_token_id", None),
        model.config.eos_token_id,
        tokenizer.eos_token_id,
        end_of_turn,
    )


def ids_of(*named: object) -> frozenset[int]:
    """All ids of what names one, some or none."""
    ids: set[int] = set()
    for value in named:
        ids.update(cast("list[int]", value) if isinstance(value, list) else [] if value is None else [cast(int, value)])
    return frozenset(ids)


def own_context(config: PreTrainedConfig) -> int:
    """The longest sequence that the model was made for, in tokens, with positions that no batch-mate can change."""
    text = config.get_text_config(decoder=True)
    longest = getattr(text, "max_position_embeddings", None)
    if not isinstance(longest, int):
        raise UnsupportedModel(architecture(config), "its configuration names no max_position_embeddings")
    rope = getattr(text, "rope_parameters", None) or {}
    # These rescale all positions of a batch once its longest row passes the original length.
    if rope.get("rope_type") in ("dynamic", "longrope"):
        longest = min(longest, rope.get("original_max_position_embeddings", longest))
    return longest


def cache_shapes(model: PreTrainedModel, context: int) -> list[LayerShape]:
    """Each layer's cache, as the model itself fills one. Raises UnsupportedModel for layers of another kind."""
    name = architecture(model.config)
    cache = DynamicCache(config=model.config)
    for layer in cache.layers:
        kind = type(layer)
        if kind is DynamicSlidingWindowLayer and cast(DynamicSlidingWindowLayer, layer).sliding_window < context:
            window = cast(DynamicSlidingWindowLayer, layer).sliding_window
            raise UnsupportedModel(
                name, f"its sliding window of {window} tokens is shorter than the served context of {context}"
            )
        if kind not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise UnsupportedModel(name, f"it has layers with a {kind.__name__}, which slots cannot hold")
    try:
        with torch.inference_mode():
            model(input_ids=_trial_ids(model)[:, :4], past_key_values=cache, use_cache=True)
        return [_shape(layer.keys, layer.values) for layer in cast("list[DynamicLayer]", cache.layers)]
    except (TypeError, AttributeError, ValueError) as error:
        raise UnsupportedModel(name, "it does not keep keys and values in a transformers cache") from error


def _shape(keys: Tensor | None, values: Tensor | None) -> LayerShape:
    if keys is None or values is None:
        raise ValueError("a layer without keys and values")
    (_, heads, _, key_dim), value_dim = keys.shape, values.shape[-1]  # (B, heads, T, dim)
    return LayerShape(heads, key_dim, value_dim)


def use_slots(model: PreTrainedModel, budget: CacheBudget) -> SlotForward:
    """Switch the model to slot attention and fused activations. Returns its forward over slots within the budget.

    Raises UnsupportedModel if it then computes anything else than before, flat or padded.
    """
    ids = _trial_ids(model)
    with torch.inference_mode():
        plain = cast(Tensor, model(input_ids=ids, use_cache=False).logits)[0].float()  # (T, V)
        model.set_attn_implementation(SLOT_ATTENTION)
        _fuse_gelu(model)
        flat = True
        try:
            _check_slots(model, budget.layers, ids[0].tolist(), plain, flat=flat)
        except UnsupportedModel:  # it has an attention of its own
            flat = False
            _check_slots(model, budget.layers, ids[0].tolist(), plain, flat=flat)
    return _slot_forward(model, budget, flat=flat)


def _slot_forward(model: PreTrainedModel, budget: CacheBudget, *, flat: bool) -> SlotForward:
    cache = SlotCache(budget, model.dtype, model.device)
    return SlotForward(cast(CausalLM, model), cache, flat=flat, keeps_logits=keeps_logits(model), dtype=model.dtype)


def _check_slots(
    model: PreTrainedModel, shapes: Sequence[LayerShape], ids: list[int], plain: Tensor, *, flat: bool
) -> None:
    """Compare what comes through the slots with the plain logits (T, V)."""
    slots = _through_slots(model, shapes, ids, flat=flat)
    spread = (plain - plain.mean(-1, keepdim=True)).abs().max().item()
    difference = (plain[[-3, -2, -1, -1]] - slots).abs().max().item() / max(spread, 1e-6)
    if not difference <= _TOLERANCE[model.dtype]:
        raise UnsupportedModel(
            architecture(model.config),
            f"reading piece by piece through the slot cache changes its logits (by {difference:.2g} of their spread)",
        )


def _fuse_gelu(model: torch.nn.Module) -> None:
    """GPT-2's activation (Hendrycks 2016, arXiv:1606.08415, tanh form) in one kernel instead of eight."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is NewGELUActivation:
                setattr(parent, name, torch.nn.GELU(approximate="tanh"))


def _through_slots(model: PreTrainedModel, shapes: Sequence[LayerShape], ids: list[int], *, flat: bool) -> Tensor:
    """Logits (4, V) of the last three tokens, the last twice: read in two uneven pieces beside a shorter row, then one
    alone while that reads, and once more while it does not.
    """
    half, size = len(ids) // 2, model.dtype.itemsize
    forward = _slot_forward(model, CacheBudget(shapes, size, limit=2**62, block=len(ids)), flat=flat)
    forward.cache.reserve(2, len(ids), max_slots=2, used=0, used_length=0)
    last = Span(0, len(ids) - 1, ids[-1:])
    try:
        forward.logits([], [Span(0, 0, ids[:half]), Span(1, 0, ids[:2])])
        read = forward.logits([Span(1, 2, ids[2:3])], [Span(0, half, ids[half:-1], keep=2)])[1:]
        beside = forward.logits([last], [Span(1, 3, ids[3:5])])[:1]
        alone = forward.logits([last, Span(1, 5, ids[5:6])])[:1]
    except (TypeError, RuntimeError, NotImplementedError, IndexError) as error:
        reason = f"it does not run on the slot cache: {error}"
        raise UnsupportedModel(architecture(model.config), reason) from error
    return torch.cat([read, beside, alone])


def _trial_ids(model: PreTrainedModel) -> Tensor:
    return torch.arange(7, 7 + 31 * _TRIAL, 31, device=model.device)[None] % embedding_rows(model)
