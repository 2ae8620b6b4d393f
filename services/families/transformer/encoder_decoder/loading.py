"""Owns the way from a checkpoint folder to an encoder-decoder that slots can hold, and the refusal of others.

A trial compares the model's plain forward with the same tokens written one by one through the slot cache, beside
another row that has come further.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, EncoderDecoderCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from services.families.transformer.encoder_decoder.forward import PairForward, Source, Turn
from services.families.transformer.encoder_decoder.positions import RowPositions, count_by_row
from services.families.transformer.shape import architecture
from services.nn.cache_budget import CacheBudget, LayerShape
from services.nn.errors import UnsupportedModel
from services.nn.kv_cache import SlotCache

_SOURCE, _OTHER, _TARGET = 12, 5, 4  # tokens of the trial
# Largest difference of logits, relative to their spread, that rounding explains.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
_FAULTS = (TypeError, AttributeError, RuntimeError, NotImplementedError, IndexError, KeyError)


class PairModel(NamedTuple):
    """A model that has passed. `length` is the longest source or target that it was made for, None if none is."""

    model: PreTrainedModel
    positions: RowPositions
    shapes: Sequence[LayerShape]
    length: int | None
    start: int
    pad: int


def load_pair(folder: Path, config: PreTrainedConfig, *, dtype: torch.dtype, device: torch.device) -> PairModel:
    """From local safetensors alone, in evaluation mode. Raises UnsupportedModel."""
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="eager",
    )
    model = cast(PreTrainedModel, cast(torch.nn.Module, model).to(device).eval())
    model.requires_grad_(False)
    start, pad = _start(model), model.config.pad_token_id
    source, target = _trial_ids(model, _SOURCE), [start, *_trial_ids(model, _TARGET)]
    with torch.inference_mode():
        plain, shapes = _plain(model, source, target)
        positions, has_table = count_by_row(model.get_decoder())
        pair = PairModel(model, positions, shapes, _length(config, has_table), start, start if pad is None else pad)
        _check(pair, plain, source, target)
    return pair


def _start(model: PreTrainedModel) -> int:
    """What every target begins with, as `generate` has it."""
    given: Any = model.generation_config
    named = (given.decoder_start_token_id, model.config.decoder_start_token_id, given.bos_token_id)
    found = next((token for token in named if token is not None), None)
    if not isinstance(found, int):
        raise UnsupportedModel(architecture(model.config), "its configuration names no decoder_start_token_id")
    return found


def _length(config: PreTrainedConfig, has_table: bool) -> int | None:
    """The longest sequence in tokens. Distances alone (T5) set no end; the number that comes with them is a habit."""
    longest = getattr(config, "max_position_embeddings", None)
    if has_table and not isinstance(longest, int):
        raise UnsupportedModel(architecture(config), "its configuration names no max_position_embeddings")
    return longest if has_table else None


def _plain(model: PreTrainedModel, source: list[int], target: list[int]) -> tuple[Tensor, list[LayerShape]]:
    """Logits (T, V) of the trial by the model's own cache, and the shapes of that: of targets, then sources."""
    name = architecture(model.config)
    run: Any = model
    ids = torch.tensor([source], device=model.device)
    output = run(input_ids=ids, decoder_input_ids=torch.tensor([target], device=model.device), use_cache=True)
    caches = output.past_key_values
    if not isinstance(caches, EncoderDecoderCache):
        raise UnsupportedModel(name, "it does not keep keys and values in a transformers cache")
    layers = [*caches.self_attention_cache.layers, *caches.cross_attention_cache.layers]
    if any(type(layer) is not DynamicLayer for layer in layers):
        raise UnsupportedModel(name, "it has layers of another kind, which slots cannot hold")
    shapes = [_shape(cast(DynamicLayer, layer)) for layer in layers]
    return cast(Tensor, output.logits)[0].float(), shapes


def _shape(layer: DynamicLayer) -> LayerShape:
    keys, values = cast(Tensor, layer.keys), cast(Tensor, layer.values)  # (B, heads, T, dim)
    return LayerShape(keys.shape[1], keys.shape[-1], values.shape[-1])


def _check(pair: PairModel, plain: Tensor, source: list[int], target: list[int]) -> None:
    """Raises UnsupportedModel if the model computes anything else through the slots than before."""
    name = architecture(pair.model.config)
    try:
        slots = _through_slots(pair, source, target)
    except _FAULTS as error:
        raise UnsupportedModel(name, f"it does not run on the slot cache: {error}") from error
    spread = (plain - plain.mean(-1, keepdim=True)).abs().max().item()
    difference = (plain - slots).abs().max().item() / max(spread, 1e-6)
    if not difference <= _TOLERANCE[pair.model.dtype]:
        raise UnsupportedModel(
            name,
            f"writing token by token through the slot cache changes its logits (by {difference:.2g} of their spread)",
        )


def _through_slots(pair: PairModel, source: list[int], target: list[int]) -> Tensor:
    """Logits (T, V) of the target in slot 1, beside a row in slot 0 whose source is shorter and which is ahead."""
    model = pair.model
    budget = CacheBudget(pair.shapes, model.dtype.itemsize, limit=2**62, block=len(source))
    cache = SlotCache(budget, model.dtype, model.device)
    cache.reserve(2, len(source), max_slots=2, used=0, used_length=0)
    forward = PairForward(model, cache, pair.positions, start=pair.start, pad=pair.pad)
    other = source[:_OTHER]
    forward.read([Source(0, other)])
    forward.decode([Turn(0, 1, other[0], len(other))])
    logits = [forward.read([Source(1, source)])]
    for past, token in enumerate(target[1:], start=1):
        ahead = Turn(0, past + 1, other[0], len(other))
        logits.append(forward.decode([ahead, Turn(1, past, token, len(source))])[1:])
    return torch.cat(logits)


def _trial_ids(model: PreTrainedModel, count: int) -> list[int]:
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).weight.shape[0]
    return [(7 + 31 * i) % rows for i in range(count)]
