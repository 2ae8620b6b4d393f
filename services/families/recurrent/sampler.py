"""Owns a recurrent net's steps: every decoding row makes a token, and waiting rows read a piece of their prompts.

A step computes everything first, and commits last. Pieces of a prompt have fixed boundaries, multiples of PIECE, and
nothing is padded, so a row's arithmetic does not depend on the load.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.contract import StepOutput
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.state import Move, RowState
from services.nn.device import device_errors
from services.nn.text.advance import Chunk, ReadyState, output_of, text_batch_key
from services.nn.text.params import GenerateParams, RawLogprob, ReadyParams, SamplingOptions
from services.nn.text.rows import RowText, score_prompt
from services.nn.text.sampling import Choice, Seen, choose_tokens, token_logprob

Params = GenerateParams | ReadyParams
State = RowState | ReadyState

PIECE = 32  # prompt tokens that a row reads in a step
# For rows whose prompt goes on: their logits are only checked, so the cheapest rule will do.
_NO_CHOICE = Choice(SamplingOptions(temperature=0), Seen(None, None), 0.0)
_STATES = 4  # a row's own, and what a step makes of it: stacked, moved on, and the row's next
_LOGITS = 6  # vectors of the vocabulary: what the choice of a token makes, and what the penalties look at


@dataclass(frozen=True, slots=True)
class SamplerLimits:
    """`prefill_tokens` bounds the prompt tokens of a step, `state_memory` (bytes) what running rows take."""

    max_batch_size: int
    prefill_tokens: int
    state_memory: int


class RecurrentSampler:
    """Implements `services.engine.contract.Sampler`. The engine's thread alone calls it."""

    def __init__(self, model: RecurrentLM, text: RowText, limits: SamplerLimits) -> None:
        self.model = model
        self.rows: set[RowState] = set()
        self._text, self._limits = text, limits
        self.piece = min(PIECE, limits.prefill_tokens)
        self._step = 0

    @property
    def max_batch_size(self) -> int:
        return self._limits.max_batch_size

    def batch_key(self, params: Params) -> Hashable:
        return text_batch_key(params)

    def fits(self, params: Params, states: Sequence[State]) -> bool:
        """A row takes the same however long its text is."""
        if isinstance(params, ReadyParams):
            return True
        running = sum(isinstance(state, RowState) for state in states)
        return (running + 1) * row_memory(self.model) <= self._limits.state_memory

    def start(self, params: Params) -> State:
        if isinstance(params, ReadyParams):
            return ReadyState(params)
        vocabulary, device = self.model.config.vocabulary, self.model.head.weight.device
        with device_errors():
            seen = Seen.of(params.sampling, params.prompt, vocabulary, device)
        # As if read just now: a stream of newcomers must not starve a prompt that is half read.
        row = RowState(params, seen, self._text.start(params), read_at=self._step)
        self.rows.add(row)
        return row

    def step(self, states: Sequence[State]) -> list[StepOutput[Chunk]]:
        rows = [state for state in states if isinstance(state, RowState)]
        with torch.inference_mode(), device_errors():
            moves = {id(move.row): move for move in [*self._decode(rows), *self._read(rows)]}
            outputs = [output_of(state, moves.get(id(state))) for state in states]
            self._step += 1
            for move in moves.values():
                self._commit(move)
        return outputs

    def release(self, state: State) -> None:
        if isinstance(state, RowState):
            self.rows.discard(state)
            state.state = None

    def _decode(self, rows: Sequence[RowState]) -> list[Move]:
        """One token for every row whose prompt is read."""
        decoding = [row for row in rows if row.token is not None]
        if not decoding:
            return []
        state = self._stacked(decoding)
        ids = torch.tensor([row.token for row in decoding], device=state.device)
        outputs, state = self.model.advance(ids, state)
        return self._moves(decoding, [1] * len(decoding), outputs, state, [()] * len(decoding))

    def _read(self, rows: Sequence[RowState]) -> list[Move]:
        """A piece of some prompts, those read longest ago first; a row that reads its last piece makes a token."""
        waiting = sorted((row for row in rows if not row.decoding), key=lambda row: row.read_at)
        reading = waiting[: self._limits.prefill_tokens // self.piece]
        if not reading:
            return []
        pieces = [row.piece(self.piece) for row in reading]
        outputs, state = self.model.read(pieces, self._stacked(reading))
        scores = [
            score_prompt(row, row.length, piece, self.model.head(output)) if row.wants_prompt_logprobs else ()
            for row, piece, output in zip(reading, pieces, outputs, strict=True)
        ]
        last = torch.stack([output[-1] for output in outputs])
        return self._moves(reading, list(map(len, pieces)), last, state, scores)

    def _stacked(self, rows: Sequence[RowState]) -> Tensor:
        """(S, L, R, H)."""
        fresh = self.model.fresh_state(1)[:, :, 0]
        return torch.stack([fresh if row.state is None else row.state for row in rows], dim=2)

    def _moves(
        self,
        rows: Sequence[RowState],
        fed: Sequence[int],
        outputs: Tensor,
        state: Tensor,
        scores: Sequence[tuple[RawLogprob, ...]],
    ) -> list[Move]:
        """Choose each row's token from its last output (R, H), unless more of its prompt than what was fed comes."""
        logits = self.model.head(outputs).float()  # (R, V)
        speaks = [row.length + count >= len(row.params.prompt) for row, count in zip(rows, fed, strict=True)]
        choices = [
            row.choice(self._text.eos) if speaking else _NO_CHOICE for row, speaking in zip(rows, speaks, strict=True)
        ]
        chosen = choose_tokens(logits, choices)
        states = [each.clone() for each in state.unbind(2)]  # views would keep the states of the whole batch
        moves: list[Move] = []
        for i, row in enumerate(rows):
            own = states[i]
            if not (chosen.finite[i] and speaks[i]):
                moves.append(Move(row, fed[i], chosen.finite[i], scores[i], state=own))
                continue
            token, wanted = chosen.tokens[i], row.params.logprobs
            logprob = None if wanted is None else token_logprob(logits[i], token, wanted)
            spoken = self._text.speak(row, token, logprob, scores[i])
            moves.append(Move(row, fed[i], True, scores[i], token, spoken, state=own))
        return moves

    def _commit(self, move: Move) -> None:
        """The only place that changes rows. Refuses nothing: what could be wrong is ruled out where a move is made."""
        row = move.row
        if not move.finite:
            return
        if not row.decoding:
            row.read_at, row.prompt_logprobs = self._step, move.prompt_logprobs
        row.state, row.length = move.state, row.length + move.fed
        if move.token is not None and move.spoken is not None:
            row.take(move.token, move.spoken)


def row_memory(model: RecurrentLM) -> int:
    """Bytes that a running row takes at most, with its part of a step's tensors."""
    state = model.fresh_state(1)
    return _STATES * state.nbytes + _LOGITS * model.config.vocabulary * 4
