"""Owns the transformer's steps: every decoding row makes a token, or several if it guessed them rightly, and some
waiting rows read a piece of their prompt, all in one forward.

A step computes everything first (forward, draws, text), and commits last. Pieces of a prompt have fixed boundaries,
multiples of `prefill_tokens`, which depend neither on the load nor on what a row finds read already.

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
from services.families.transformer.forward import SlotForward, Span, Turn, choose_prompts, prompt_budget
from services.families.transformer.speculation import Speculation
from services.families.transformer.state import RowState, SlotTable
from services.nn.device import device_errors
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
    """`vocabulary`: width of the logits. `prefill_tokens` bounds a row's piece of its prompt in a step.

    `shares_prefixes`: what one row has read of its prompt, others with the same beginning need not read.
    """

    max_batch_size: int
    prefill_tokens: int
    vocabulary: int
    shares_prefixes: bool
    speculation: Speculation | None = None


class TransformerSampler:
    """Implements `services.engine.contract.Sampler`. The engine's thread alone calls it."""

    def __init__(self, forward: SlotForward, text: RowText, limits: SamplerLimits) -> None:
        self.forward = forward
        self.table = SlotTable(forward.cache)
        self._cache, self._text, self._limits = forward.cache, text, limits
        self._prefixes = PrefixCache(forward.cache, limits.prefill_tokens)
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
            row.lookup = Lookup(params.prompt, params.expected)
        with device_errors():
            self._prefixes.use(row.blocks)
            self.table.join(row, self._limits.max_batch_size)
            with torch.inference_mode():
                self._resume(row)
        return row

    def step(self, states: Sequence[State]) -> list[StepOutput[Chunk]]:
        rows = [state for state in states if isinstance(state, RowState)]
        with torch.inference_mode(), device_errors(), adapted(rows):
            moves = {id(move.row): move for move in self._moves(rows)}
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
        length = self._prefixes.resume(self._wanted(row), row.slot, row.length)
        row.cached += length - row.length
        row.length = length

    def _wanted(self, row: RowState) -> tuple[bytes, ...]:
        """The blocks that the row need not read if others have."""
        if row.decoding or row.wants_prompt_logprobs:
            return ()
        return row.blocks[: (len(row.params.prompt) - 1) // self._limits.prefill_tokens]

    def _keep(self, row: RowState) -> None:
        """Let other rows have the block of the prompt that the row has just read, if it read a whole one."""
        count, rest = divmod(row.length, self._limits.prefill_tokens)
        if row.blocks and not rest:
            self._prefixes.keep(row.blocks[:count], row.slot)

    def _moves(self, rows: Sequence[RowState]) -> list[Advance[RowState]]:
        """A token for every row whose prompt is read, and those behind it that were guessed; a piece of some prompts,
        and a token for each row that reads its last.
        """
        decoding = sorted((row for row in rows if row.decoding), key=lambda row: row.slot)
        reading = self._reading(rows)
        if not decoding and not reading:
            return []
        pieces = [self._span(row) for row in reading]
        guesses = self._guesses(decoding, beside=sum(len(piece.tokens) for piece in pieces))
        spans = [self._span(row, guess) for row, guess in zip(decoding, guesses, strict=True)]
        moves = self._advance([*decoding, *reading], [*spans, *pieces], self.forward.logits(spans, pieces))
        for i, guess in enumerate(guesses):
            if guess and not moves[i].finite:
                moves[i] = self._alone(decoding[i])
        return moves

    def _alone(self, row: RowState) -> Advance[RowState]:
        """The move of a row without its guess, which may be what spoiled its values: attention weighs by zero, and zero
        times nan is nan."""
        self._cache.wipe_cells(row.slot, row.length, row.room)
        spans = [self._span(row)]
        return self._advance([row], spans, self.forward.logits(spans))[0]

    def _guesses(self, rows: Sequence[RowState], beside: int) -> list[tuple[int, ...]]:
        """What each row feeds behind its token, in a forward with so many tokens of prompts `beside`."""
        speculation = self._limits.speculation
        if speculation is None:
            return [()] * len(rows)
        guesses = [row.guess(speculation.most) for row in rows]
        hopes = [0.0 if row.lookup is None else row.lookup.hope for row in rows]
        counts = speculation.counts(hopes, [len(guess) for guess in guesses], beside)
        return [guess[:count] for guess, count in zip(guesses, counts, strict=True)]

    def _reading(self, rows: Sequence[RowState]) -> list[RowState]:
        """Those that read a piece of their prompt now, by slot."""
        waiting = [row for row in rows if not row.decoding]
        turns = [Turn(row.read_at, len(self._next_tokens(row)), self._next_block(row)) for row in waiting]
        budget = prompt_budget(self._limits.prefill_tokens, len(rows))
        chosen = [waiting[i] for i in choose_prompts(turns, budget, padded=not self.forward.flat)]
        return sorted(chosen, key=lambda row: row.slot)

    def _next_tokens(self, row: RowState) -> tuple[int, ...]:
        if row.token is not None:
            return (row.token,)
        return row.params.prompt[row.length : row.length + self._limits.prefill_tokens]

    def _next_block(self, row: RowState) -> bytes | None:
        wanted, (count, rest) = self._wanted(row), divmod(row.length, self._limits.prefill_tokens)
        return wanted[count] if not rest and count < len(wanted) else None

    def _span(self, row: RowState, guess: tuple[int, ...] = ()) -> Span:
        row.dirty = True  # from here on the row's cells past its length may hold anything
        tokens = self._next_tokens(row) + guess
        return Span(row.slot, row.length, tokens, keep=len(tokens) if row.scores_prompt else 1 + len(guess))

    def _advance(self, rows: Sequence[RowState], spans: Sequence[Span], logits: Tensor) -> list[Advance[RowState]]:
        """Choose each row's tokens, unless more of its prompt comes. logits (P, V): those that the spans keep."""
        kept = logits.split([span.keep for span in spans])
        scores: list[tuple[RawLogprob, ...]] = [
            score_prompt(row, row.length, span.tokens, each) if row.scores_prompt else ()
            for row, span, each in zip(rows, spans, kept, strict=True)
        ]
        if any(scores):  # behind these a token is chosen at the end alone
            kept = [each[-1:] if scored else each for each, scored in zip(kept, scores, strict=True)]
            logits = torch.cat([*kept])
        speaks = [
            row.length + len(span.tokens) >= len(row.params.prompt) for row, span in zip(rows, spans, strict=True)
        ]
        choices = [
            row.choice(self._text.eos, ahead) if speaking else _NO_CHOICE
            for row, speaking, each in zip(rows, speaks, kept, strict=True)
            for ahead in range(len(each))
        ]
        chosen = choose_tokens(logits, choices)
        moves: list[Advance[RowState]] = []
        at = 0
        for row, span, each, speaking, scored in zip(rows, spans, kept, speaks, scores, strict=True):
            mine = Chosen(chosen.tokens[at : at + len(each)], chosen.finite[at : at + len(each)])
            if mine.finite[0] and speaking:
                moves.append(self._speak(row, span, mine, each, scored))
            else:
                moves.append(Advance(row, len(span.tokens), mine.finite[0], scored))
            at += len(each)
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
        return Advance(row, fed, True, scores, chosen.tokens[len(said) - 1], said[-1], earlier, len(guesses))

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
        if move.guessed and row.params.counts is not None:
            row.params.counts.add(guessed_tokens=move.guessed, accepted_tokens=len(move.earlier))
        if reading:
            self.table.promote(row)
