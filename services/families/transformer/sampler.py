"""Owns the transformer's steps: every decoding row makes a token, or several if it guessed them rightly, and some
waiting rows read a piece of their prompt.

A step computes everything first (forwards, draws, text), and commits last. Pieces of a prompt have fixed boundaries,
multiples of `prefill_tokens`, so a row's arithmetic does not depend on the load, nor on what it finds read already.

Guesses change no answer: every token is chosen from the model's logits behind the tokens before it, with the draw that
is its own, and a guess only lets the model compute those logits before it is known that it comes to them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.contract import StepOutput
from services.families.transformer.adapters.lora import adapted
from services.families.transformer.forward import SlotForward, Span, Turn, choose_prompts
from services.families.transformer.speculation import Speculation
from services.families.transformer.state import RowState, SlotTable
from services.nn.device import device_errors
from services.nn.kv_cache import SlotCache
from services.nn.prefix_cache import PrefixCache, block_keys
from services.nn.text.advance import Advance, Chunk, ReadyState, output_of, text_batch_key
from services.nn.text.lookup import Lookup
from services.nn.text.params import GenerateParams, RawLogprob, ReadyParams, SamplingOptions
from services.nn.text.rows import RowText, Spoken, score_prompt
from services.nn.text.sampling import Choice, Chosen, Seen, choose_tokens, token_logprob

Params = GenerateParams | ReadyParams
State = RowState | ReadyState

# For rows whose prompt goes on: their logits are only checked, so the cheapest rule will do.
_NO_CHOICE = Choice(SamplingOptions(temperature=0), Seen(None, None), 0.0)


@dataclass(frozen=True, slots=True)
class SamplerLimits:
    """`vocabulary`: width of the logits. `prefill_tokens` bounds a row's piece and a step's padded prompt tokens.

    `shares_prefixes`: what one row has read of its prompt, others with the same beginning need not read.
    """

    max_batch_size: int
    prefill_tokens: int
    vocabulary: int
    shares_prefixes: bool
    speculation: Speculation | None = None


class TransformerSampler:
    """Implements `services.engine.contract.Sampler`. The engine's thread alone calls it."""

    def __init__(self, forward: SlotForward, cache: SlotCache, text: RowText, limits: SamplerLimits) -> None:
        self.forward = forward
        self.table = SlotTable(cache)
        self._cache, self._text, self._limits = cache, text, limits
        self._prefixes = PrefixCache(cache, limits.prefill_tokens)
        self._step = 0

    @property
    def max_batch_size(self) -> int:
        return self._limits.max_batch_size

    def batch_key(self, params: Params) -> Hashable:
        return text_batch_key(params)

    def fits(self, params: Params, states: Sequence[State]) -> bool:
        """Exact: bytes of all rows padded to the longest final length, and of the copy that changes the shape."""
        if isinstance(params, ReadyParams):
            return True
        running = [state.params.length for state in states if isinstance(state, RowState)]
        return self._cache.budget.fits(len(running) + 1, max(params.length, *running, 0))

    def start(self, params: Params) -> State:
        if isinstance(params, ReadyParams):
            return ReadyState(params)
        seen = Seen.of(params.sampling, params.prompt, self._limits.vocabulary, self._cache.device)
        # As if read just now: a stream of newcomers must not starve a prompt that is half read.
        text, blocks = self._text.start(params), self._blocks(params)
        row = RowState(params, seen, text, blocks=blocks, read_at=self._step)
        if self._limits.speculation is not None and row.foresees:
            row.lookup = Lookup(params.prompt)
        with device_errors():
            self._prefixes.use(row.blocks)
            self.table.join(row, self._limits.max_batch_size)
            with torch.inference_mode():
                self._resume(row)
        return row

    def step(self, states: Sequence[State]) -> list[StepOutput[Chunk]]:
        rows = [state for state in states if isinstance(state, RowState)]
        with torch.inference_mode(), device_errors(), adapted(rows):
            moves = {id(move.row): move for move in [*self._decode(rows), *self._read(rows)]}
            outputs = [output_of(state, moves.get(id(state))) for state in states]
            self._step += 1
            for move in moves.values():
                self._commit(move)
            for row in rows:
                if not row.dirty:  # else it has just failed
                    self._resume(row)
        return outputs

    def release(self, state: State) -> None:
        if isinstance(state, RowState):
            with torch.inference_mode(), device_errors():
                self.table.leave(state)

    def _blocks(self, params: GenerateParams) -> tuple[bytes, ...]:
        if not self._limits.shares_prefixes:
            return ()
        return block_keys(params.prefix_salt, params.prompt, self._limits.prefill_tokens)

    def _resume(self, row: RowState) -> None:
        """Give a row what others have read of its prompt. Its last token is always read, for its logits."""
        if row.decoding or row.wants_prompt_logprobs:
            return
        wanted = row.blocks[: (len(row.params.prompt) - 1) // self._limits.prefill_tokens]
        length = self._prefixes.resume(wanted, row.slot, row.length)
        row.cached += length - row.length
        row.length = length

    def _keep(self, row: RowState) -> None:
        """Let other rows have the block of the prompt that the row has just read, if it read a whole one."""
        count, rest = divmod(row.length, self._limits.prefill_tokens)
        if row.blocks and not rest:
            self._prefixes.keep(row.blocks[:count], row.slot)

    def _decode(self, rows: Sequence[RowState]) -> list[Advance[RowState]]:
        """One token for every row whose prompt is read, and those behind it that were guessed."""
        decoding = sorted((row for row in rows if row.decoding), key=lambda row: row.slot)
        if not decoding:
            return []
        guesses = self._guesses(decoding)
        spans = [self._span(row, guess) for row, guess in zip(decoding, guesses, strict=True)]
        if not any(guesses):
            return self._advance(decoding, spans, self.forward.last_logits(spans), [()] * len(spans))
        logits = torch.cat(self.forward.all_logits(spans))
        moves = self._advance(decoding, spans, logits, [()] * len(spans), [1 + len(guess) for guess in guesses])
        return [
            self._alone(move.row) if guess and not move.finite else move
            for move, guess in zip(moves, guesses, strict=True)
        ]

    def _alone(self, row: RowState) -> Advance[RowState]:
        """The move of a row without its guess, which may be what spoiled its values: attention weighs by zero, and zero
        times nan is nan."""
        self._cache.wipe_cells(row.slot, row.length, row.room)
        spans = [self._span(row)]
        return self._advance([row], spans, self.forward.last_logits(spans), [()])[0]

    def _guesses(self, rows: Sequence[RowState]) -> list[tuple[int, ...]]:
        speculation = self._limits.speculation
        if speculation is None:
            return [()] * len(rows)
        guesses = [row.guess(speculation.most) for row in rows]
        hopes = [
            row.lookup.hope if guess and row.lookup is not None else 0.0
            for row, guess in zip(rows, guesses, strict=True)
        ]
        width = speculation.width(hopes)
        return [guess[: width - 1] for guess in guesses]

    def _read(self, rows: Sequence[RowState]) -> list[Advance[RowState]]:
        """A piece of some prompts, those read longest ago first; a row that reads its last piece makes a token."""
        waiting = [row for row in rows if not row.decoding]
        reading = [
            waiting[i] for i in choose_prompts([self._turn(row) for row in waiting], self._limits.prefill_tokens)
        ]
        if not reading:
            return []
        reading.sort(key=lambda row: row.slot)
        spans = [self._span(row) for row in reading]
        if not reading[0].wants_prompt_logprobs:
            return self._advance(reading, spans, self.forward.last_logits(spans), [()] * len(spans))
        logits = self.forward.all_logits(spans)
        scores = [
            score_prompt(row, row.length, span.tokens, each)
            for row, span, each in zip(reading, spans, logits, strict=True)
        ]
        return self._advance(reading, spans, torch.stack([each[-1] for each in logits]), scores)

    def _turn(self, row: RowState) -> Turn:
        return Turn(row.read_at, len(self._next_tokens(row)), row.wants_prompt_logprobs)

    def _next_tokens(self, row: RowState) -> tuple[int, ...]:
        if row.token is not None:
            return (row.token,)
        return row.params.prompt[row.length : row.length + self._limits.prefill_tokens]

    def _span(self, row: RowState, guess: tuple[int, ...] = ()) -> Span:
        row.dirty = True  # from here on the row's cells past its length may hold anything
        return Span(row.slot, row.length, self._next_tokens(row) + guess)

    def _advance(
        self,
        rows: Sequence[RowState],
        spans: Sequence[Span],
        logits: Tensor,
        scores: Sequence[tuple[RawLogprob, ...]],
        counts: Sequence[int] | None = None,
    ) -> list[Advance[RowState]]:
        """Choose each row's tokens, unless more of its prompt comes.

        logits (P, V): those behind each row's last token, or, given `counts`, behind so many of its last ones.
        """
        counts = counts or [1] * len(rows)
        speaks = [
            row.length + len(span.tokens) >= len(row.params.prompt) for row, span in zip(rows, spans, strict=True)
        ]
        choices = [
            row.choice(self._text.eos, ahead) if speaking else _NO_CHOICE
            for row, speaking, count in zip(rows, speaks, counts, strict=True)
            for ahead in range(count)
        ]
        chosen = choose_tokens(logits, choices)
        moves: list[Advance[RowState]] = []
        at = 0
        for i, (row, span, count) in enumerate(zip(rows, spans, counts, strict=True)):
            if chosen.finite[at] and speaks[i]:
                mine = Chosen(chosen.tokens[at : at + count], chosen.finite[at : at + count])
                moves.append(self._speak(row, span, mine, logits[at : at + count], scores[i]))
            else:
                moves.append(Advance(row, len(span.tokens), chosen.finite[at], scores[i]))
            at += count
        return moves

    def _speak(
        self, row: RowState, span: Span, chosen: Chosen, logits: Tensor, scores: tuple[RawLogprob, ...]
    ) -> Advance[RowState]:
        """A row's tokens up to the first that was not guessed. logits (N, V) behind the span's last N tokens."""
        guesses = span.tokens[len(span.tokens) - len(chosen.tokens) + 1 :]
        wanted = row.params.logprobs
        said: list[Spoken] = []
        for i, token in enumerate(chosen.tokens):
            logprob = None if wanted is None else token_logprob(logits[i], token, wanted)
            said.append(self._text.speak(row, token, logprob, scores, said))
            goes_on = said[-1].finish is None and i < len(guesses) and token == guesses[i] and chosen.finite[i + 1]
            if not goes_on:
                break
        fed = len(span.tokens) - len(guesses) + len(said) - 1
        if not all(chosen.finite):
            self._cache.wipe_cells(row.slot, row.length + fed, row.room)  # of wrong guesses, which nothing may meet
        earlier = tuple(zip(chosen.tokens, said[:-1], strict=False))
        return Advance(row, fed, True, scores, chosen.tokens[len(said) - 1], said[-1], earlier)

    def _commit(self, move: Advance[RowState]) -> None:
        """The only place that changes rows. A row that is not finite keeps its mark, and is wiped when it leaves.

        Refuses nothing: what could be wrong with a move (a token outside the vocabulary) is ruled out where it is made.
        """
        row, spoken = move.row, move.spoken
        if not move.finite:
            return
        reading = not row.decoding
        row.length += move.fed
        row.dirty = False
        if reading:
            row.read_at, row.prompt_logprobs = self._step, move.prompt_logprobs
            self._keep(row)
        if move.token is None or spoken is None:
            return
        for token, said in (*move.earlier, (move.token, spoken)):
            row.take(token, said)
        if reading:
            self.table.promote(row)
