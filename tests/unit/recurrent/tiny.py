"""Tiny recurrent nets of bytes with random weights, as folders that the family loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from services.families.recurrent.text.tokens import BOS, EOS, VOCABULARY, byte_tokenizer
from services.nn.weights import save_model
from shared.config.recurrent import RecurrentTextModel

CELLS: tuple[Literal["rnn", "lstm", "gru"], ...] = ("rnn", "lstm", "gru")


def tiny_net(cell: Literal["rnn", "lstm", "gru"], **changes: Any) -> RecurrentLM:
    """Weights large enough that no two tokens are alike likely; recurrent ones so that rounding does not grow."""
    fields = {"vocabulary": VOCABULARY, "embedding": 12, "hidden": 24, "layers": 2, "bos": BOS, "eos": EOS} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = RecurrentLM(RecurrentConfig(cell=cell, **fields)).eval()
        for name, weight in net.named_parameters():
            torch.nn.init.normal_(weight, std=0.15 if "weight_hh" in name else 0.5)
    return net


def tiny_folder(cell: Literal["rnn", "lstm", "gru"], folder: Path, **changes: Any) -> Path:
    net = tiny_net(cell, **changes)
    save_model(net, net.config, folder)
    byte_tokenizer().save(str(folder / TOKENIZER))
    return folder


def text_config(folder: Path, **options: Any) -> RecurrentTextModel:
    return RecurrentTextModel(id="tiny", source=f"file://{folder}", kind="text", **options)
