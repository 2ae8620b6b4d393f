"""Owns the way from a folder to a loaded decoder."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import structlog
import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from services.engine.contract import Task
from services.families import LoadedModel
from services.families.transformer.adapters.lora import Site, linear_sites
from services.families.transformer.adapters.weights import load_adapter
from services.families.transformer.chat import ChatEncoder, TurnEncoder
from services.families.transformer.forward import SlotForward, prompt_budget
from services.families.transformer.loading import (
    cache_shapes,
    check_causal,
    embedding_rows,
    end_tokens,
    load_model,
    own_context,
    use_slots,
)
from services.families.transformer.sampler import SamplerLimits, TransformerSampler
from services.families.transformer.shape import architecture, read_config
from services.families.transformer.speculation import Speculation, balance_of
from services.families.transformer.tasks import ChatTask
from services.nn.cache_budget import CacheBudget
from services.nn.device import device_errors
from services.nn.errors import UnsupportedModel
from services.nn.linears import BATCHES, pack_linears, packed_bytes
from services.nn.text.detokenizer import make_detokenizer
from services.nn.text.grammar import make_grammars
from services.nn.text.params import text_counts
from services.nn.text.rows import RowText
from services.nn.text.tasks import (
    CompletionTask,
    DetokenizeTask,
    Generation,
    TextLimits,
    TokenizeTask,
)
from services.nn.text.tokenizer import Vocabulary
from services.nn.weights import DTYPES
from shared.config.text import USUAL_CONTEXT
from shared.config.transformer import AdapterModel, TransformerModel

log = structlog.get_logger(__name__)

Conversation = ChatEncoder | TurnEncoder


def load_decoder(config: TransformerModel, folder: Path) -> LoadedModel:
    """Load a decoder-only causal LM: config.json, *.safetensors and tokenizer files, already verified.

    Raises UnsupportedModel for an architecture that the slot cache cannot hold, DeviceFailure if the device fails.
    """
    with device_errors():
        pretrained = read_config(folder, config.kind)
        check_causal(pretrained)
        dtype, device = DTYPES[config.dtype], torch.device(config.device)
        context = served_context(config.context_length, pretrained)
        with ThreadPoolExecutor(1) as beside:  # reading weights is the disk's work, reading a tokenizer Python's
            reading = beside.submit(read_tokenizer, folder)
            model = load_model(folder, pretrained, dtype=dtype, device=device)
            tokenizer, vocabulary = reading.result()
        log.info("weights_read", model=config.id)
        times: Mapping[int, float] = {}
        if device.type == "cpu":  # nothing beside it, which its benchmark would take for slow kernels
            times = dict(zip(BATCHES, pack_linears(model).taken_s, strict=True))
        shapes = cache_shapes(model, context)
        forward = use_slots(model, CacheBudget(shapes, dtype.itemsize, int(config.cache_memory)))
    speculation = Speculation(config.guess_tokens, balance_of(times)) if config.guess_tokens else None
    return _assemble(config, model, forward, tokenizer, vocabulary, context, speculation)


def read_tokenizer(folder: Path) -> tuple[PreTrainedTokenizerBase, Vocabulary]:
    tokenizer = cast(
        PreTrainedTokenizerBase,
        AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    return tokenizer, Vocabulary(tokenizer)


def served_context(wanted: int | None, pretrained: PreTrainedConfig) -> int:
    own = own_context(pretrained)
    return min(wanted or USUAL_CONTEXT, own)


def _assemble(
    config: TransformerModel,
    model: PreTrainedModel,
    forward: SlotForward,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    context: int,
    speculation: Speculation | None,
) -> LoadedModel:
    width, budget = embedding_rows(model), forward.cache.budget
    encoder = conversation(config.conversation, model.config, tokenizer, vocabulary)
    limits = _text_limits(config, budget, context, width)
    eos = end_tokens(model, tokenizer, None if encoder is None else encoder.end_of_turn())
    sampler = TransformerSampler(
        forward,
        RowText(make_detokenizer(vocabulary), eos),
        SamplerLimits(config.max_batch_size, config.prefill_tokens, width, config.prefix_cache, speculation),
    )
    memory = _memory(model, config, budget, width)
    generation = Generation(vocabulary, limits, config.sampling, make_grammars(vocabulary, width, eos))
    log.info("model_loaded", model=config.id, context=limits.context, eos=sorted(eos), memory_mb=memory >> 20)
    loaded = LoadedModel(
        sampler=sampler,
        tasks=decoder_tasks(config.id, generation, encoder),
        memory=memory,
        limits={"context_length": limits.context, "max_batch_size": config.max_batch_size},
        revision=config.revision,
        counts=generation.counts,
    )
    head = model.get_output_embeddings()
    output = next((name for name, module in model.named_modules() if module is head), None)
    return replace(
        loaded, adapt=partial(_adapt, _Base(loaded, model, linear_sites(model), output, tokenizer, generation, encoder))
    )


@dataclass(frozen=True, slots=True)
class _Base:
    """A loaded decoder, and what its adapters take over from it. `sites` are its layers while no adapter is active.

    `output` names the layer that makes the logits.
    """

    loaded: LoadedModel
    model: PreTrainedModel
    sites: Mapping[str, Site]
    output: str | None
    tokenizer: PreTrainedTokenizerBase
    generation: Generation
    encoder: Conversation | None


def _adapt(base: _Base, config: AdapterModel, folder: Path) -> LoadedModel:
    """The decoder with the folder's adapter. Its memory is the adapter's matrices. Raises UnsupportedModel."""
    with device_errors():
        adapter = load_adapter(folder, base.sites, output=base.output, dtype=base.model.dtype, device=base.model.device)
    defaults = config.sampling or base.generation.defaults
    generation = replace(base.generation, adapter=adapter, defaults=defaults, counts=text_counts())
    encoder = base.encoder
    if config.conversation is not None:
        encoder = conversation(config.conversation, base.model.config, base.tokenizer, generation.vocabulary)
    log.info("adapter_loaded", model=config.id, base=config.base, memory_kb=adapter.nbytes >> 10)
    return replace(
        base.loaded,
        tasks=decoder_tasks(config.id, generation, encoder),
        memory=adapter.nbytes,
        revision=config.revision,
        adapt=None,
        counts=generation.counts,
    )


def _text_limits(config: TransformerModel, budget: CacheBudget, context: int, width: int) -> TextLimits:
    longest = budget.longest()
    if longest == 0:
        raise UnsupportedModel(config.id, f"its cache_memory of {budget.limit} bytes holds no {budget.block} tokens")
    bound = "" if longest >= context else f"; its cache_memory holds no more than {longest} tokens"
    return TextLimits(min(context, longest), bound, width, config.prefill_tokens)


def decoder_tasks(
    model: str, generation: Generation, encoder: Conversation | None
) -> Mapping[str, Task[Any, Any, Any, Any]]:
    """Every task that the model does: chat needs a chat template."""
    vocabulary, limits = generation.vocabulary, generation.limits
    tasks: dict[str, Task[Any, Any, Any, Any]] = {
        "completion": CompletionTask(generation),
        "tokenize": TokenizeTask(vocabulary, limits, encoder, model),
        "detokenize": DetokenizeTask(vocabulary, limits),
    }
    return tasks if encoder is None else {"chat": ChatTask(generation, encoder), **tasks}


def conversation(
    wanted: str | None, shape: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary
) -> Conversation | None:
    """How messages become a prompt: by the template, or joined by the end token, or not at all, as the entry may say.

    The end token joins turns if the entry says so, or if there is no template and the checkpoint's configuration has
    `conversational` among its task_specific_params: DialoGPT (arXiv:1911.00536) has, and was trained so.
    """
    purposes: dict[str, Any] = getattr(shape, "task_specific_params", None) or {}
    if wanted is None and tokenizer.chat_template is not None:
        return ChatEncoder(tokenizer, vocabulary)
    if wanted == "none" or (wanted is None and "conversational" not in purposes):
        return None
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise UnsupportedModel(
            architecture(shape), "its turns are joined by an end token, and its tokenizer names none"
        )
    return TurnEncoder(vocabulary, end)


def _memory(model: PreTrainedModel, config: TransformerModel, budget: CacheBudget, width: int) -> int:
    """Bytes at most: weights, cache with its growth, and a step's tensors, counted generously."""
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]) + packed_bytes(model)
    prompts = prompt_budget(config.prefill_tokens, config.max_batch_size)
    rows = config.max_batch_size * (1 + config.guess_tokens) + prompts
    logits = 4 * rows * width * 4  # float32: the logits, and what the choice makes of them
    hidden = max(getattr(model.config, "intermediate_size", 0) or 0, 4 * cast(int, model.config.hidden_size))
    activations = 16 * rows * hidden * budget.itemsize
    # One layer's rows: copied where their slots are not contiguous, and repeated for grouped queries of many tokens.
    groups = max(1, cast(int, model.config.num_attention_heads) // min(layer.heads for layer in budget.layers))
    gathered = (1 + groups) * 2 * budget.limit // (2 * len(budget.layers) + 1)
    return weights + budget.limit + logits + activations + gathered
