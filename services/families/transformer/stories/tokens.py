"""Owns the tokens of stories: a byte-level BPE that is trained on them, and documents of ids. Never sees a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

BEGIN, END = "<s>", "</s>"
BOS, EOS = 0, 1  # their ids
BYTES = 2 + 256  # ids of `byte_documents`
TOKENIZER = "tokenizer.json"  # of a checkpoint, and of what it is trained on


def train_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """At most `size` tokens: the two marks, the 256 bytes, and what the texts make worth a token of its own.

    Byte-pair encoding over bytes (Sennrich 2016, arXiv:1508.07909; Radford 2019), so that any text can be read. The
    same texts give the same tokens. What it encodes begins with BOS.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, BOS)])
    return tokenizer


def pretrained(tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """As a checkpoint has it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def documents(tokenizer: Tokenizer, texts: Sequence[str], *, end: bool = True) -> list[Tensor]:
    """Each text's ids, int64 (T,), between BOS and EOS; without `end` it goes on."""
    encoded = tokenizer.encode_batch(list(texts))
    return [torch.tensor([*one.ids, *([EOS] if end else [])]) for one in encoded]


def byte_documents(texts: Sequence[str]) -> list[Tensor]:
    """The same, a byte a token: what models of characters are compared by. Ids are below BYTES."""
    return [torch.tensor([BOS, *(byte + 2 for byte in text.encode()), EOS]) for text in texts]
