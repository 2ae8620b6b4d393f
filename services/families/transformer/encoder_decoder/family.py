"""Owns the way from a folder to a loaded encoder-decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import structlog
import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from services.families import LoadedModel
from services.families.transformer.chat import ChatEncoder
from services.families.transformer.encoder_decoder.forward import PairForward
from services.families.transformer.encoder_decoder.loading import PairModel, load_pair
from services.families.transformer.encoder_decoder.rules import Rules
from services.families.transformer.encoder_decoder.sampler import PairLimits, PairSampler
from services.families.transformer.encoder_decoder.tasks import (
    LastMessageTask,
    PairGeneration,
    SourceEncoder,
    TargetTask,
)
from services.families.transformer.loading import embedding_rows, end_tokens
from services.families.transformer.shape import architecture, read_config
from services.families.transformer.tasks import ChatTask
from services.nn.cache_budget import CacheBudget
from services.nn.device import device_errors
from services.nn.errors import UnsupportedModel
from services.nn.kv_cache import SlotCache
from services.nn.text.detokenizer import make_detokenizer
from services.nn.text.rows import RowText
from services.nn.text.tasks import DetokenizeTask, TextLimits, TokenizeTask
from services.nn.text.tokenizer import Vocabulary
from services.nn.weights import DTYPES
from shared.config.text import USUAL_CONTEXT
from shared.config.transformer import MOST_PREFIX, EncoderDecoderModel

_USUAL_LENGTH = 512  # tokens of a source or target, of a model that has no end of its own: what T5 was trained on


def load_encoder_decoder(config: EncoderDecoderModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel for a checkpoint of another shape, DeviceFailure if the device fails."""
    with device_errors():
        pretrained = read_config(folder, config.kind)
        prefix = _prefix(config, pretrained)
        pair = load_pair(folder, pretrained, dtype=DTYPES[config.dtype], device=torch.device(config.device))
    tokenizer = cast(
        PreTrainedTokenizerBase,
        AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    budget = CacheBudget(pair.shapes, pair.model.dtype.itemsize, int(config.cache_memory))
    return _assemble(config, pair, tokenizer, budget, prefix)


def _prefix(config: EncoderDecoderModel, pretrained: PreTrainedConfig) -> str:
    """What sources begin with: the entry's own, else that of its purpose in the checkpoint's configuration."""
    if config.prefix is not None or config.purpose is None:
        return config.prefix or ""
    purposes: dict[str, Any] = getattr(pretrained, "task_specific_params", None) or {}
    name = architecture(pretrained)
    if config.purpose not in purposes:
        known = ", ".join(purposes) or "none"
        raise UnsupportedModel(name, f"its task_specific_params have no '{config.purpose}'; there are: {known}")
    prefix = purposes[config.purpose].get("prefix") or ""
    if not isinstance(prefix, str) or len(prefix.encode()) > MOST_PREFIX:
        raise UnsupportedModel(name, f"the prefix of '{config.purpose}' is no text of at most {MOST_PREFIX} bytes")
    return prefix


def _assemble(
    config: EncoderDecoderModel,
    pair: PairModel,
    tokenizer: PreTrainedTokenizerBase,
    budget: CacheBudget,
    prefix: str,
) -> LoadedModel:
    model, vocabulary = pair.model, Vocabulary(tokenizer)
    limits = _limits(config, pair, budget)
    chats = SourceEncoder(vocabulary, prefix) if tokenizer.chat_template is None else ChatEncoder(tokenizer, vocabulary)
    eos = end_tokens(model, tokenizer, None)
    rules = Rules(model.generation_config, sorted(eos), model.device)
    cache = SlotCache(budget, model.dtype, model.device)
    forward = PairForward(model, cache, pair.positions, start=pair.start, pad=pair.pad)
    sampler = PairSampler(
        forward,
        cache,
        RowText(make_detokenizer(vocabulary), eos),
        rules,
        PairLimits(config.max_batch_size, config.encode_tokens, limits.vocabulary, pair.start),
    )
    memory = _memory(config, pair, budget, limits)
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, context=limits.context, eos=sorted(eos), memory_mb=memory >> 20
    )
    generation = PairGeneration(vocabulary, limits, config.sampling)
    return LoadedModel(
        sampler=sampler,
        tasks={
            "chat": (LastMessageTask if tokenizer.chat_template is None else ChatTask)(generation, chats),
            "completion": TargetTask(generation, SourceEncoder(vocabulary, prefix)),
            "tokenize": TokenizeTask(vocabulary, limits, chats, config.id),
            "detokenize": DetokenizeTask(vocabulary, limits),
        },
        memory=memory,
        limits={"context_length": limits.context, "max_batch_size": config.max_batch_size},
        revision=config.revision,
    )


def _limits(config: EncoderDecoderModel, pair: PairModel, budget: CacheBudget) -> TextLimits:
    asked = config.context_length
    context = asked or _USUAL_LENGTH if pair.length is None else min(asked or USUAL_CONTEXT, pair.length)
    longest = budget.longest()
    if longest == 0:
        raise UnsupportedModel(config.id, f"its cache_memory of {budget.limit} bytes holds no {budget.block} tokens")
    bound = "" if longest >= context else f"; its cache_memory holds no more than {longest} tokens of each"
    return TextLimits(min(context, longest), bound, embedding_rows(pair.model))


def _memory(config: EncoderDecoderModel, pair: PairModel, budget: CacheBudget, limits: TextLimits) -> int:
    """Bytes at most: weights, cache with its growth, and a step's tensors, counted generously."""
    shape: Any = pair.model.config
    weights = sum(tensor.nbytes for tensor in [*pair.model.parameters(), *pair.model.buffers()])
    logits = 6 * config.max_batch_size * limits.vocabulary * 4  # float32: they, under rules, and what the choice makes
    tokens = max(config.encode_tokens, limits.context)
    wide = max(getattr(shape, "d_ff", 0) or 0, getattr(shape, "encoder_ffn_dim", 0) or 0, 4 * shape.hidden_size)
    heads = max(layer.heads for layer in budget.layers)
    scores = 3 * heads * tokens * limits.context * budget.itemsize  # of every token with every other of its source
    gathered = 2 * budget.limit // len(budget.layers)  # a layer's rows, copied where their slots are not contiguous
    return weights + budget.limit + logits + 8 * tokens * wide * budget.itemsize + scores + gathered
