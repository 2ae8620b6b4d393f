"""Owns the recurrent language model: an embedding, a stack of cells, a head. Never sees a request.

Cells: the simple recurrent net (Elman 1990, doi:10.1207/s15516709cog1402_1), LSTM (Hochreiter and Schmidhuber 1997,
doi:10.1162/neco.1997.9.8.1735), GRU (Cho 2014, arXiv:1406.1078).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from services.nn.weights import ModelShape

_MODULES: Mapping[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class RecurrentConfig(ModelShape):
    """config.json. `bos` begins every document and `eos` ends it, where the model was trained so."""

    model_type: Literal["recurrent-lm"] = "recurrent-lm"
    cell: Literal["rnn", "lstm", "gru"]
    vocabulary: int = Field(ge=2)
    embedding: int = Field(ge=1)
    hidden: int = Field(ge=1)
    layers: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1, description="in training: of embeddings, and after each layer")
    bos: int | None = None
    eos: int | None = None

    @property
    def parts(self) -> int:
        """Tensors of a layer's state: h, and for an LSTM also c."""
        return 2 if self.cell == "lstm" else 1


class RecurrentLM(nn.Module):
    """Next-token logits. A state is (S, L, B, H): parts (h, and c of an LSTM), layers, rows, width."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.cells = _MODULES[config.cell](
            config.embedding,
            config.hidden,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, config.vocabulary)

    def forward(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ids (B, T) int64 -> logits (B, T, V), and the state after the last of them; for training and scoring."""
        x = self.dropout(self.embedding(ids))
        if self.config.cell == "lstm":
            outputs, after = self.cells(x, None if state is None else (state[0], state[1]))
            kept = torch.stack(after)
        else:
            outputs, after = self.cells(x, None if state is None else state[0])
            kept = cast(Tensor, after)[None]
        return self.head(self.dropout(outputs)), kept

    def fresh_state(self, rows: int) -> Tensor:
        """Zeros (S, L, rows, H), of the weights' dtype and device."""
        config = self.config
        return self.head.weight.new_zeros(config.parts, config.layers, rows, config.hidden)

    def advance(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One token of each row: ids (B,) -> the top layer's output (B, H), and the new state.

        Cell by cell, which takes a tenth of the time of a sequence of one token.
        """
        x, after = self.embedding(ids), list[Tensor]()
        for layer in range(self.config.layers):
            parts = self._cell(layer, x, state[:, layer])
            after.append(torch.stack(parts))
            x = parts[0]
        return x, torch.stack(after, dim=1)

    def read(self, pieces: Sequence[Sequence[int]], state: Tensor) -> tuple[list[Tensor], Tensor]:
        """Pieces of tokens, one a row, of unlike lengths: the top layer's outputs (T_r, H) each, and the new state.

        A row whose piece has ended takes no part in what follows, so nothing is padded.
        """
        order = sorted(range(len(pieces)), key=lambda row: -len(pieces[row]))
        lengths = [len(pieces[row]) for row in order]
        state, outputs = state[:, :, order], list[Tensor]()
        for at in range(lengths[0]):
            active = sum(length > at for length in lengths)
            ids = torch.tensor([pieces[row][at] for row in order[:active]], device=state.device)
            output, moved = self.advance(ids, state[:, :, :active])
            state = torch.cat([moved, state[:, :, active:]], dim=2)
            outputs.append(output)
        places = {row: place for place, row in enumerate(order)}
        rows = [places[row] for row in range(len(pieces))]
        read = [torch.stack([outputs[at][place] for at in range(lengths[place])]) for place in rows]
        return read, state[:, :, rows]

    def _cell(self, layer: int, x: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        """x (B, E or H), state (S, B, H) -> the parts of the new state, (B, H) each."""
        weights = [cast(Tensor, getattr(self.cells, f"{name}_l{layer}")) for name in _WEIGHTS]
        match self.config.cell:
            case "lstm":
                return torch.lstm_cell(x, (state[0], state[1]), *weights)
            case "gru":
                return (torch.gru_cell(x, state[0], *weights),)
            case "rnn":
                return (torch.rnn_tanh_cell(x, state[0], *weights),)
