"""Owns a story GPT's shape, its fresh weights, and the checkpoint that it becomes. Knows no data."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from services.families.transformer.stories.drawing import TEMPERATURE, TOP_P
from services.families.transformer.stories.tokens import BOS, EOS, pretrained


@dataclass(frozen=True, slots=True)
class Shape:
    """`vocabulary`: tokens at most, that a tokenizer is trained to. `dropout`: of embeddings and of what layers add."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    context: int
    dropout: float = 0.0


def fresh_model(shape: Shape, vocabulary: int, seed: int) -> GPT2LMHeadModel:
    """GPT-2 (Radford 2019), whose input and output embeddings are one, with weights drawn from `seed`.

    Attention itself is without dropout, which would keep it from the fused kernel.
    """
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_positions=shape.context,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one kernel
        embd_pdrop=shape.dropout,
        resid_pdrop=shape.dropout,
        attn_pdrop=0.0,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
        torch.default_generator.manual_seed(seed)
        return GPT2LMHeadModel(config)


def export_model(model: GPT2LMHeadModel, tokenizer: Tokenizer, folder: Path) -> None:
    """A plain Hugging Face checkpoint of half precision: configurations, weights, tokenizer."""
    half = copy.deepcopy(model).half()
    half.generation_config = GenerationConfig(
        bos_token_id=BOS, eos_token_id=EOS, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P
    )
    half.save_pretrained(folder)
    pretrained(tokenizer, model.config.n_positions).save_pretrained(folder)


def read_model(folder: Path) -> GPT2LMHeadModel:
    """In single precision, in evaluation mode."""
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
