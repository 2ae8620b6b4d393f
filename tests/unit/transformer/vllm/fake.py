"""vLLM's engine as the sampler sees it, without vLLM: it makes a row's tokens from its seed, and may die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from services.families.transformer.vllm.client import Loop, Made, Piece
from services.nn.text.params import GenerateParams, RawLogprob

TokensOf = Callable[[GenerateParams], Sequence[int]]


def seeded(params: GenerateParams) -> list[int]:
    """As many tokens as the row may have, none of them special, of its seed and its prompt alone."""
    rng = random.Random(f"{params.seed} {params.prompt}")
    return [rng.randrange(3, 400) for _ in range(max(1, params.max_new_tokens))]


@dataclass
class FakeVllm:
    """Gives `tokens_of` a row, some at a time; ends the row behind one of `eos`, or at its length, as vLLM does.

    `waits`: turns of the loop that it lets pass before each piece; `piece`: tokens in one.
    """

    tokens_of: TokensOf = seeded
    eos: tuple[int, ...] = ()
    piece: int = 1
    waits: int = 2
    cached: int = 0
    fails: str | None = None
    is_dead: bool = False
    is_closed: bool = False
    silent: bool = False
    rows: dict[str, GenerateParams] = field(default_factory=dict[str, GenerateParams])
    seen: list[GenerateParams] = field(default_factory=list[GenerateParams])
    aborted: list[str] = field(default_factory=list[str])

    def start(self, loop: Loop, *, context: int, eos: Sequence[int]) -> FakeVllm:
        """As an `EngineMaker`."""
        self.eos = tuple(eos)
        return self

    async def generate(self, params: GenerateParams, name: str) -> AsyncGenerator[Piece, None]:
        assert name not in self.rows, "a name of two running rows"
        self.rows[name] = params
        self.seen.append(params)
        try:
            async for piece in self._pieces(params):
                yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted.append(name)
            raise
        finally:
            del self.rows[name]

    async def _pieces(self, params: GenerateParams) -> AsyncGenerator[Piece, None]:
        if self.silent:
            await asyncio.Event().wait()
        made = [self._made(token, params) for token in self._answer(params)]
        prompt = self._prompt(params)
        for at in range(0, len(made), self.piece):
            for _ in range(self.waits):
                await asyncio.sleep(0)
            yield Piece(tuple(made[at : at + self.piece]), self.cached, () if at else prompt)
        if self.fails is not None:
            yield Piece((), self.cached, failed=self.fails)

    def _answer(self, params: GenerateParams) -> list[int]:
        tokens = list(self.tokens_of(params))[: max(1, params.max_new_tokens)]
        ends = [i for i, token in enumerate(tokens) if token in self.eos and not params.ignore_eos]
        return tokens[: ends[0] + 1] if ends else tokens

    def _made(self, token: int, params: GenerateParams) -> Made:
        if params.logprobs is None:
            return Made(token)
        return Made(token, RawLogprob(token, -1.5, tuple((i, -2.0 - i) for i in range(params.logprobs))))

    def _prompt(self, params: GenerateParams) -> tuple[RawLogprob, ...]:
        if params.echo is None or params.logprobs is None:
            return ()
        first, *rest = params.prompt
        return (RawLogprob(first, float("nan"), ()), *(RawLogprob(token, -0.5, ()) for token in rest))

    def close(self) -> None:
        self.is_closed = True
