"""Owns the way from a folder of weights to what makes tokens of any meaning: sampler, vocabulary, limits.

The folder holds config.json, model.safetensors, and tokenizer.json of the `tokenizers` library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog
import torch
from transformers import PreTrainedTokenizerFast

from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from services.families.recurrent.sampler import RecurrentSampler, SamplerLimits, row_memory
from services.nn.device import device_errors
from services.nn.errors import UnsupportedModel
from services.nn.text.detokenizer import make_detokenizer
from services.nn.text.rows import RowText
from services.nn.text.tasks import TextLimits
from services.nn.text.tokenizer import Vocabulary
from services.nn.weights import DTYPES, load_model
from shared.config.recurrent import RecurrentLanguageModel

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """What a kind's own tasks build on. `memory`: bytes at most, as a LoadedModel says it."""

    sampler: RecurrentSampler
    vocabulary: Vocabulary
    limits: TextLimits
    memory: int

    @property
    def shape(self) -> RecurrentConfig:
        return self.sampler.model.config


def load_language(config: RecurrentLanguageModel, folder: Path) -> Language:
    """Of verified files.

    Raises UnsupportedModel for another kind of model, for a tokenizer of ids that it does not know, and for a
    state_memory that holds no row; DeviceFailure if the device fails.
    """
    with device_errors():
        model = load_net(folder, dtype=DTYPES[config.dtype], device=config.device)
    shape, vocabulary = model.config, read_vocabulary(folder)
    if vocabulary.size > shape.vocabulary:
        raise UnsupportedModel(config.id, f"its tokenizer has {vocabulary.size} ids, its weights {shape.vocabulary}")
    if row_memory(model) > config.state_memory:
        needed = row_memory(model)
        raise UnsupportedModel(config.id, f"a row takes {needed} bytes, its state_memory is {config.state_memory}")
    eos = frozenset(() if shape.eos is None else (shape.eos,))
    sampler = RecurrentSampler(
        model,
        RowText(make_detokenizer(vocabulary), eos),
        SamplerLimits(config.max_batch_size, config.prefill_tokens, config.state_memory),
    )
    memory = _memory(model, config)
    structlog.get_logger(__name__).info("model_loaded", model=config.id, cell=shape.cell, memory_mb=memory >> 20)
    limits = TextLimits(config.context_length, "", shape.vocabulary, sampler.piece)
    return Language(sampler, vocabulary, limits, memory)


def load_net(folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> RecurrentLM:
    """The net alone, in evaluation mode. Raises UnsupportedModel."""
    return load_model(RecurrentLM, RecurrentConfig, folder, dtype=dtype, device=torch.device(device))


def read_vocabulary(folder: Path) -> Vocabulary:
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_file=str(folder / TOKENIZER)))


def _memory(model: RecurrentLM, config: RecurrentLanguageModel) -> int:
    """Weights, states, and what reading a step's prompts makes: outputs of each token, and logits of scored ones."""
    weights = sum(tensor.nbytes for tensor in model.parameters())
    read = config.prefill_tokens * (2 * model.config.hidden + 3 * model.config.vocabulary) * 4
    return weights + config.state_memory + read
