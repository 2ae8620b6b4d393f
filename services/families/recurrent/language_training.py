"""Owns the training of a recurrent net of tokens, and how well one tells documents. Knows no kind of document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.recurrent.corpora import NOTHING, Corpus
from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from services.training.recipe import Phase

Sheet = Callable[[RecurrentLM], Image.Image]
_STRETCH = 256  # tokens that scoring reads at a time


class LanguageTraining:
    """Implements `services.training.recipe.Training`: next-token prediction, in nats a token.

    `validated` are whole documents that are not of the corpus. `sheet` draws samples to look at.
    """

    averaged: Sequence[str] = ("net",)

    def __init__(
        self,
        config: RecurrentConfig,
        corpus: Corpus,
        validated: Sequence[Tensor],
        seed: int,
        *,
        sheet: Sheet,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
    ) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._net = RecurrentLM(config)
            prepare_weights(self._net)
        self.phases: Sequence[Phase] = (
            Phase("tell", ("net",), learning_rate=learning_rate, weight_decay=weight_decay),
        )
        self._corpus, self._validated, self._sheet = corpus, validated, sheet

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"net": self._net}

    @property
    def examples(self) -> int:
        return self._corpus.examples

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return self._corpus.batch(indices, generator)

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        logits, _ = modules["net"](batch[:, :-1].clamp(min=0))
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=NOTHING), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Nats a token of held-out documents."""
        nats = document_nats(cast(RecurrentLM, modules["net"]).eval(), self._validated)
        tokens = sum(len(document) - 1 for document in self._validated)
        return {"metric": nats.sum().item() / tokens}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return self._sheet(cast(RecurrentLM, modules["net"]).eval())


def prepare_weights(net: RecurrentLM) -> None:
    """Orthogonal recurrent weights (Saxe 2013, arXiv:1312.6120), and forget gates that begin open (Jozefowicz 2015)."""
    config = net.config
    for name, weight in net.cells.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.data.split(config.hidden):
                nn.init.orthogonal_(gate)
        elif name.startswith("bias"):
            nn.init.zeros_(weight)
            if config.cell == "lstm" and name.startswith("bias_ih"):  # gates: input, forget, cell, output
                nn.init.ones_(weight.data[config.hidden : 2 * config.hidden])


@torch.no_grad()
def document_nats(net: RecurrentLM, documents: Sequence[Tensor], rows: int = 64) -> Tensor:
    """-log p of each document after its first token, float64 (N,): the state goes on from its start to its end.

    documents: int (T,) each, of any lengths of at least 2; `rows` are read side by side, those of like lengths.
    """
    nats = torch.zeros(len(documents), dtype=torch.float64)
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        padded = nn.utils.rnn.pad_sequence([documents[i] for i in chosen], batch_first=True, padding_value=NOTHING)
        nats[chosen] = _batch_nats(net, padded.long().to(net.head.weight.device)).cpu()
    return nats


def _batch_nats(net: RecurrentLM, padded: Tensor) -> Tensor:
    """padded (B, T) -> float64 (B,)."""
    total, state = padded.new_zeros(len(padded), dtype=torch.float64), net.fresh_state(len(padded))
    for at in range(0, padded.shape[1] - 1, _STRETCH):
        stretch = padded[:, at : at + _STRETCH + 1]
        logits, state = net(stretch[:, :-1].clamp(min=0), state)
        losses = nn.functional.cross_entropy(
            logits.float().transpose(1, 2), stretch[:, 1:], ignore_index=NOTHING, reduction="none"
        )
        total += losses.double().sum(1)
    return total
