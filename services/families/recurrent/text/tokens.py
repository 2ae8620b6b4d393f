"""Owns the tokens of character models: the 256 bytes, so that any text can be read, and marks of begin and end."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from services.nn.text.tokenizer import byte_alphabet

BOS, EOS = 0, 1
_MARKS = ("<begin>", "<end>")
VOCABULARY = 256 + len(_MARKS)


def byte_tokenizer() -> Tokenizer:
    """A byte-level tokenizer without merges: a token a byte, hence a character of ASCII. A text begins with BOS."""
    ids = {mark: i for i, mark in enumerate(_MARKS)}
    ids |= {piece: byte + len(_MARKS) for piece, byte in byte_alphabet().items()}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in _MARKS])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_MARKS[BOS]} $A", special_tokens=[(_MARKS[BOS], BOS)]
    )
    return tokenizer


def byte_ids(text: str) -> torch.Tensor:
    """int64 (1 + bytes,): what the tokenizer gives for the text, behind its BOS; a hundred times as fast."""
    raw = np.frombuffer(text.encode(), np.uint8)
    return torch.cat([torch.tensor([BOS]), torch.from_numpy(raw.astype(np.int64)) + len(_MARKS)])
