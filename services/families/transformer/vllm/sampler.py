"""Owns the steps of a decoder that vLLM runs: hand a row over when it starts, and take its tokens as they come.

vLLM has a scheduler of its own, which decides which of the rows that run here share its forward passes. What comes
before that is the engine's, as for every model: the order of what waits, deadlines, cancellation, fairness. So is what
comes after: text, stop strings, end tokens and counts are made here, from token ids, as for our own decoders.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from services.engine.contract import StepOutput
from services.engine.errors import DeviceFailure
from services.families.transformer.vllm.client import Loop, Made, TextEngine
from services.nn.text.advance import Advance, Chunk, ReadyState, output_of, text_batch_key
from services.nn.text.params import GenerateParams, ReadyParams
from services.nn.text.rows import RowText, TextRow
from services.nn.text.sampling import Seen

Params = GenerateParams | ReadyParams
WAIT_S = 0.02  # for a token, in a step: so long an abort or a new row may wait for the next boundary


class RowRefused(Exception):
    """vLLM ended a row without an answer."""


@dataclass(slots=True, eq=False)
class VllmRow(TextRow):
    """A row that vLLM runs. `made` are tokens that came and were not taken yet; `error` is why no more will come."""

    made: deque[Made] = field(default_factory=deque[Made])
    error: Exception | None = None
    following: asyncio.Task[None] | None = None


State = VllmRow | ReadyState


class VllmSampler:
    """Implements `services.engine.contract.Sampler`. The engine's thread alone calls it, and runs vLLM's front end.

    `silence_s`: rows run, and for so long none was given anything: then vLLM is taken for hung. A sampler that nobody
    holds any more ends its engine's processes.
    """

    def __init__(
        self,
        engine: TextEngine,
        loop: Loop,
        text: RowText,
        *,
        max_batch_size: int,
        silence_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._loop, self._text = engine, loop, text
        self._max_batch_size, self._silence_s, self._clock = max_batch_size, silence_s, clock
        self._names = count()
        self._heard_at = clock()
        self._running = 0
        self.end = weakref.finalize(self, _end, engine, loop)

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: Params) -> Hashable:
        return text_batch_key(params)

    def fits(self, params: Params, states: Sequence[State]) -> bool:
        """vLLM has rows wait in its own cache's queue, or read a prompt anew, before it runs out of memory."""
        return True

    def start(self, params: Params) -> State:
        if isinstance(params, ReadyParams):
            return ReadyState(params)
        self._check_alive()
        if not self._running:
            self._heard_at = self._clock()
        row = VllmRow(params, Seen(None, None), self._text.start(params))
        row.following = self._loop.begin(self._follow(row, str(next(self._names))))
        self._running += 1
        return row

    def step(self, states: Sequence[State]) -> list[StepOutput[Chunk]]:
        rows = [state for state in states if isinstance(state, VllmRow)]
        if rows:
            self._loop.wait(lambda: any(row.made or row.error for row in rows), WAIT_S)
            self._check_alive()
        for row in rows:
            if row.error is not None and not row.made:
                raise row.error  # the engine steps them one by one then, and this one fails alone
        moves = {id(row): self._advance(row) for row in rows if row.made}
        outputs = [output_of(state, moves.get(id(state))) for state in states]
        for move in moves.values():
            move.row.made.popleft()
            if move.token is not None and move.spoken is not None:
                move.row.take(move.token, move.spoken)
        return outputs

    def release(self, state: State) -> None:
        if isinstance(state, VllmRow):
            self._running -= 1
            if state.following is not None and not state.following.done():
                state.following.cancel()  # before its loop runs: what has not begun never does
                self._loop.run(_ended(state.following))

    def _advance(self, row: VllmRow) -> Advance[VllmRow]:
        """One token of those that came. With the first, the prompt is read, but for what vLLM had read before."""
        made = row.made[0]
        spoken = self._text.speak(row, made.token, made.logprob, row.prompt_logprobs)
        fed = 1 if row.decoding else len(row.params.prompt) - row.cached
        return Advance(row, fed, True, row.prompt_logprobs, made.token, spoken)

    async def _follow(self, row: VllmRow, name: str) -> None:
        """Take in what vLLM says of a row, until it has said all."""
        try:
            async for piece in self._engine.generate(row.params, name):
                self._heard_at = self._clock()
                if not (row.made or row.decoding):
                    row.cached, row.prompt_logprobs = piece.cached, piece.prompt_logprobs
                row.made.extend(piece.made)
                if piece.failed is not None:
                    row.error = RowRefused(f"vLLM ended the row: {piece.failed}")
                self._loop.tell()
            row.error = row.error or RowRefused("vLLM made no more tokens of a row that was not at its end")
        except Exception as error:
            row.error = error
        self._loop.tell()

    def _check_alive(self) -> None:
        """Raises DeviceFailure."""
        if self._engine.is_dead:
            raise DeviceFailure("vLLM's processes are gone")
        if self._running and (silence := self._clock() - self._heard_at) > self._silence_s:
            raise DeviceFailure(f"vLLM has said nothing for {silence:.0f} s, and rows run")


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait until what it does about its end is done: vLLM is told."""
    with suppress(asyncio.CancelledError):
        await task


def _end(engine: TextEngine, loop: Loop) -> None:
    engine.close()
    loop.close()
