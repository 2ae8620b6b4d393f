"""Owns the way from a folder to a decoder that vLLM runs, with the tasks and the texts of our own decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import structlog
from transformers import GenerationConfig

from services.families import LoadedModel
from services.families.transformer.decoder import conversation, decoder_tasks, read_tokenizer, served_context
from services.families.transformer.loading import check_causal, ids_of
from services.families.transformer.shape import read_config
from services.families.transformer.vllm.client import Loop, TextEngine
from services.families.transformer.vllm.engine import Vllm, cache_bytes, check_installed
from services.families.transformer.vllm.sampler import VllmSampler
from services.nn.text.detokenizer import make_detokenizer
from services.nn.text.grammar import make_grammars
from services.nn.text.rows import RowText
from services.nn.text.tasks import Generation, TextLimits
from shared.config.transformer import VllmModel

log = structlog.get_logger(__name__)

USUAL_PIECE = 2048  # tokens of a prompt that vLLM reads in a step, where an entry does not say
PROCESS_BYTES = 3 * 2**29  # of memory that each of vLLM's processes takes beside weights and cache


class EngineMaker(Protocol):
    """Starts an engine on a loop, for so long a context and answers that these tokens end."""

    def __call__(self, loop: Loop, *, context: int, eos: Sequence[int]) -> TextEngine: ...


def load_vllm(config: VllmModel, folder: Path) -> LoadedModel:
    """Start vLLM on a folder: config.json, *.safetensors and tokenizer files, already verified.

    Raises VllmMissing, UnsupportedModel, and what vLLM raises of a checkpoint or a device that it cannot use.
    """
    check_installed()

    def start(loop: Loop, *, context: int, eos: Sequence[int]) -> TextEngine:
        async def made() -> TextEngine:  # on its loop, where its tasks will be
            return Vllm(config, folder, context=context, eos=eos)

        return loop.run(made())

    return assemble(config, folder, start)


def assemble(config: VllmModel, folder: Path, start: EngineMaker) -> LoadedModel:
    """Everything but the engine, and the engine that `start` makes."""
    pretrained = read_config(folder, config.kind, quantised=True)
    check_causal(pretrained)
    context, width = (
        served_context(config.context_length, pretrained),
        pretrained.get_text_config(decoder=True).vocab_size,
    )
    tokenizer, vocabulary = read_tokenizer(folder)
    encoder = conversation(config.conversation, pretrained, tokenizer, vocabulary)
    end_of_turn = None if encoder is None else encoder.end_of_turn()
    eos = ids_of(_generation_ends(folder), pretrained.eos_token_id, tokenizer.eos_token_id, end_of_turn)
    limits = TextLimits(context, "", width, config.prefill_tokens or USUAL_PIECE)
    generation = Generation(vocabulary, limits, config.sampling, make_grammars(vocabulary, width, eos))
    loop = Loop()
    try:
        engine = start(loop, context=context, eos=sorted(eos))
    except BaseException:
        loop.close()
        raise
    sampler = VllmSampler(
        engine,
        loop,
        RowText(make_detokenizer(vocabulary), eos),
        max_batch_size=config.max_batch_size,
        silence_s=config.silence_s,
    )
    log.info("model_loaded", model=config.id, engine="vllm", context=context, eos=sorted(eos))
    return LoadedModel(
        sampler=sampler,
        tasks=decoder_tasks(config.id, generation, encoder),
        memory=_memory(config, folder),
        limits={"context_length": context, "max_batch_size": config.max_batch_size},
        revision=config.revision,
        counts=generation.counts,
    )


def _generation_ends(folder: Path) -> object:
    """What the checkpoint's generation_config.json, if it has one, says that answers end with."""
    if not (folder / "generation_config.json").exists():
        return None
    return GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id


def _memory(config: VllmModel, folder: Path) -> int:
    """Bytes at most of this machine's memory: of vLLM's processes, and on a CPU of weights and cache too."""
    processes = (1 + config.tensor_parallel) * PROCESS_BYTES
    if config.device != "cpu":
        return processes
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return processes + weights + (cache_bytes(config) or 0)
