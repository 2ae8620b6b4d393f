"""Owns the way from a folder to a loaded encoder: of vectors, or of masked tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import structlog
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from services.engine.contract import Task
from services.families import LoadedModel
from services.families.transformer.encoder.loading import Encoder, load_encoder
from services.families.transformer.encoder.masks import MaskReader
from services.families.transformer.encoder.passes import EmbedPass, FillPass, ready
from services.families.transformer.encoder.pooling import Recipe, read_recipe
from services.families.transformer.encoder.tasks import EmbeddingTask, FillTask
from services.families.transformer.loading import embedding_rows
from services.families.transformer.shape import read_config
from services.nn.device import device_errors
from services.nn.one_shot import OneShotSampler, Pass
from services.nn.text.tasks import DetokenizeTask, Generation, TextLimits, TokenizeTask
from services.nn.text.tokenizer import Vocabulary
from services.nn.weights import DTYPES
from shared.config.transformer import USUAL_ENCODER_CONTEXT, EmbeddingModel, MaskedModel

EncoderModel = EmbeddingModel | MaskedModel


def load_embedding(config: EmbeddingModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel for a checkpoint of another shape, DeviceFailure if the device fails."""
    own = read_recipe(folder)
    recipe = Recipe(
        how=config.pooling or own.how,
        normalize=own.normalize if config.normalize is None else config.normalize,
        length=own.length,
        lower=own.lower,
        prefix=config.prefix or own.prefix,
    )
    encoder, vocabulary, _ = _load(config, folder, with_head=False)
    limits = _limits(config, encoder, recipe.length)
    size = cast(int, encoder.model.config.hidden_size)
    return _loaded(
        config,
        encoder,
        vocabulary,
        limits,
        passes={"embedding": EmbedPass(encoder, recipe.how, recipe.normalize)},
        tasks={"embedding": EmbeddingTask(vocabulary, limits, size, recipe.prefix, recipe.lower)},
        more={"dimensions": size},
    )


def load_masked(config: MaskedModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel for a checkpoint without a head for masked tokens, DeviceFailure if the device fails."""
    encoder, vocabulary, tokenizer = _load(config, folder, with_head=True)
    limits = _limits(config, encoder, None)
    generation = Generation(vocabulary, limits, config.sampling)
    return _loaded(
        config,
        encoder,
        vocabulary,
        limits,
        passes={"completion": FillPass(encoder)},
        tasks={"completion": FillTask(generation, MaskReader(tokenizer, vocabulary))},
        more={},
    )


def _load(
    config: EncoderModel, folder: Path, *, with_head: bool
) -> tuple[Encoder, Vocabulary, PreTrainedTokenizerBase]:
    with device_errors():
        pretrained = read_config(folder, config.kind)
        dtype, device = DTYPES[config.dtype], torch.device(config.device)
        encoder = load_encoder(folder, pretrained, with_head=with_head, dtype=dtype, device=device)
    tokenizer = cast(
        PreTrainedTokenizerBase,
        AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    return encoder, Vocabulary(tokenizer), tokenizer


def _limits(config: EncoderModel, encoder: Encoder, named: int | None) -> TextLimits:
    """The least of what the entry, the checkpoint's files and the model's positions allow."""
    known = [each for each in (config.context_length, named, encoder.length) if each is not None]
    return TextLimits(min(known, default=USUAL_ENCODER_CONTEXT), "", embedding_rows(encoder.model))


def _loaded(
    config: EncoderModel,
    encoder: Encoder,
    vocabulary: Vocabulary,
    limits: TextLimits,
    *,
    passes: Mapping[str, Pass[Any, Any]],
    tasks: Mapping[str, Task[Any, Any, Any, Any]],
    more: Mapping[str, float],
) -> LoadedModel:
    memory = _memory(config, encoder, limits, has_head="completion" in tasks)
    structlog.get_logger(__name__).info("model_loaded", model=config.id, context=limits.context, memory_mb=memory >> 20)
    sampler = OneShotSampler[Any, Any](
        {**passes, "tokenize": ready, "detokenize": ready}, config.max_batch_size, max_cost=config.step_tokens
    )
    return LoadedModel(
        sampler=sampler,
        tasks={
            **tasks,
            "tokenize": TokenizeTask(vocabulary, limits, None, config.id, tuple(tasks)),
            "detokenize": DetokenizeTask(vocabulary, limits),
        },
        memory=memory,
        limits={"context_length": limits.context, "max_batch_size": config.max_batch_size, **more},
        revision=config.revision,
    )


def _memory(config: EncoderModel, encoder: Encoder, limits: TextLimits, *, has_head: bool) -> int:
    """Bytes at most: weights, and a step's tensors, counted generously."""
    model: Any = encoder.model
    shape, size = model.config, model.dtype.itemsize
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    tokens = max(2 * config.step_tokens, limits.context)  # padded together, less than twice as many as there are
    wide = max(getattr(shape, "intermediate_size", 0) or 0, 4 * shape.hidden_size)
    scores = 3 * shape.num_attention_heads * tokens * limits.context * size
    logits = 3 * tokens * limits.vocabulary * 4 if has_head else 0
    return weights + 8 * tokens * wide * size + scores + logits
