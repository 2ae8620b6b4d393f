"""Owns an encoder-decoder's steps: every decoding row makes a token, and some waiting rows' sources are read.

A source is read whole, for its tokens see each other, by the encoder's one pass for its row; its keys and values stay.
A step computes everything first, and commits last.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessor

from services.engine.contract import FinishReason, StepOutput
from services.families.transformer.encoder_decoder.forward import PairForward, Source, Turn
from services.families.transformer.encoder_decoder.rules import Rules, apply_rules
from services.families.transformer.forward import Turn as Claim
from services.families.transformer.forward import choose_prompts
from services.families.transformer.state import SlotRow, SlotTable
from services.nn.device import device_errors
from services.nn.kv_cache import SlotCache
from services.nn.text.advance import Advance, Chunk, ReadyState, output_of, text_batch_key
from services.nn.text.detokenizer import TextState
from services.nn.text.params import GenerateParams, ReadyParams
from services.nn.text.rows import RowText
from services.nn.text.sampling import Seen, choose_tokens, token_logprob

Params = GenerateParams | ReadyParams


@dataclass(slots=True, eq=False)
class PairRow(SlotRow):
    """A row whose prompt is its source. `length` counts its target's cells, `target` all tokens of it."""

    rules: tuple[LogitsProcessor, ...] = ()
    target: list[int] = field(default_factory=list[int])

    @property
    def cells(self) -> int:
        return max(len(self.params.prompt), self.length) if self.decoding else 0

    @property
    def room(self) -> int:
        return pair_room(self.params)


State = PairRow | ReadyState


def pair_room(params: GenerateParams) -> int:
    """Cells of a slot: its source's, or its target's if those are more."""
    return max(len(params.prompt), params.max_new_tokens)


@dataclass(frozen=True, slots=True)
class PairLimits:
    """`encode_tokens` bounds the padded source tokens of a step, unless one source alone has more.

    `vocabulary` is the width of the logits, `start` what every target begins with.
    """

    max_batch_size: int
    encode_tokens: int
    vocabulary: int
    start: int


class PairSampler:
    """Implements `services.engine.contract.Sampler`. The engine's thread alone calls it."""

    def __init__(self, forward: PairForward, cache: SlotCache, text: RowText, rules: Rules, limits: PairLimits) -> None:
        self.forward = forward
        self.table = SlotTable(cache)
        self._cache, self._text, self._rules, self._limits = cache, text, rules, limits
        self._step = 0

    @property
    def max_batch_size(self) -> int:
        return self._limits.max_batch_size

    def batch_key(self, params: Params) -> Hashable:
        return text_batch_key(params)

    def fits(self, params: Params, states: Sequence[State]) -> bool:
        """Exact: bytes of all rows padded to the longest source or target, and of the copy that changes the shape."""
        if isinstance(params, ReadyParams):
            return True
        running = [state.room for state in states if isinstance(state, PairRow)]
        return self._cache.budget.fits(len(running) + 1, max(pair_room(params), *running, 0))

    def start(self, params: Params) -> State:
        if isinstance(params, ReadyParams):
            return ReadyState(params)
        start = self._limits.start
        with device_errors():
            seen = Seen.of(params.sampling, (start,), self._limits.vocabulary, self._cache.device)
            rules = self._rules.of_source(params.prompt)
            # As if read just now: a stream of newcomers must not starve a source that waits.
            row = PairRow(params, seen, TextState(), read_at=self._step, rules=rules, target=[start])
            self.table.join(row, self._limits.max_batch_size)
        return row

    def step(self, states: Sequence[State]) -> list[StepOutput[Chunk]]:
        rows = [state for state in states if isinstance(state, PairRow)]
        with torch.inference_mode(), device_errors():
            moves = {id(move.row): move for move in [*self._decode(rows), *self._read(rows)]}
            outputs = [output_of(state, moves.get(id(state))) for state in states]
            self._step += 1
            for move in moves.values():
                self._commit(move)
        return outputs

    def release(self, state: State) -> None:
        if isinstance(state, PairRow):
            with torch.inference_mode(), device_errors():
                self.table.leave(state)

    def _decode(self, rows: Sequence[PairRow]) -> list[Advance[PairRow]]:
        """One token for every row whose source is read."""
        decoding = sorted((row for row in rows if row.decoding), key=lambda row: row.slot)
        if not decoding:
            return []
        for row in decoding:
            row.dirty = True  # from here on its cells past those that it holds may hold anything
        turns = [Turn(row.slot, row.length, row.target[-1], len(row.params.prompt)) for row in decoding]
        return self._advance(decoding, self.forward.decode(turns))

    def _read(self, rows: Sequence[PairRow]) -> list[Advance[PairRow]]:
        """Some sources, those that have waited longest first; their rows make their first token."""
        waiting = [row for row in rows if not row.decoding]
        claims = [Claim(row.read_at, len(row.params.prompt)) for row in waiting]
        reading = [waiting[i] for i in choose_prompts(claims, self._limits.encode_tokens)]
        if not reading:
            return []
        reading.sort(key=lambda row: row.slot)
        for row in reading:
            row.dirty = True
        return self._advance(reading, self.forward.read([Source(row.slot, row.params.prompt) for row in reading]))

    def _advance(self, rows: Sequence[PairRow], logits: Tensor) -> list[Advance[PairRow]]:
        """Choose each row's token from its logits (R, V)."""
        sound: list[bool] = logits.amax(-1).isfinite().tolist()  # a rule would hide it
        ruled = logits.clone() if any(row.rules for row in rows) else logits
        for i, row in enumerate(rows):
            if row.rules:
                ruled[i] = apply_rules(row.rules, row.target, logits[i])
        chosen = choose_tokens(ruled, [row.choice(self._text.eos) for row in rows])
        moves: list[Advance[PairRow]] = []
        for i, row in enumerate(rows):
            read = len(row.params.prompt)
            if sound[i] and chosen.finite[i]:
                moves.append(self._speak(row, read, chosen.tokens[i], logits[i]))
            else:
                moves.append(Advance(row, read, False))
        return moves

    def _speak(self, row: PairRow, read: int, choice: int, logits: Tensor) -> Advance[PairRow]:
        """The move that a choice makes. Where a row may grow no further, the token that targets end with comes."""
        params, last = row.params, self._rules.last
        token = choice
        if last is not None and not params.ignore_eos and row.generated + 1 == params.max_new_tokens:
            token = last
        logprob = None if params.logprobs is None else token_logprob(logits, token, params.logprobs)
        spoken = self._text.speak(row, token, logprob, ())
        if token != choice and choice not in self._text.eos:
            spoken = spoken._replace(finish=FinishReason.LENGTH)  # it was cut, and did not end
        return Advance(row, read, True, (), token, spoken)

    def _commit(self, move: Advance[PairRow]) -> None:
        """The only place that changes rows. A row that is not finite keeps its mark, and is wiped when it leaves."""
        row = move.row
        if move.token is None or move.spoken is None:
            return
        reading = not row.decoding
        row.length += 1
        row.dirty = False
        row.target.append(move.token)
        row.take(move.token, move.spoken)
        if reading:
            self.table.promote(row)
