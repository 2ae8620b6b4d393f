"""Owns what a row needs to run, and what it gives: plain data between tasks and sampler. Never sees a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NamedTuple, Protocol

from services.engine.counts import Counts
from services.nn.text.calls import CallReader, Piece
from services.nn.text.grammar import Grammar
from shared.events import TextDelta, TokenIds


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How a row chooses tokens. Neutral values switch a rule off; `temperature` 0 is greedy.

    Applied in this order: repetition penalty, presence and frequency penalties, bias, then temperature, top-k,
    top-p, min-p.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict[int, float])

    @property
    def counts_generated(self) -> bool:
        return self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def truncates(self) -> bool:
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


class Adapter(Protocol):
    """A change of a model's weights. Rows with and without it, or with another, share no step and no prompt.

    `key` is one that no other has that was loaded in this process. While `active`, the model computes with the change.
    """

    key: str

    def active(self) -> AbstractContextManager[None]: ...


def text_counts() -> Counts:
    """What is counted of a model of text: tokens guessed ahead, and forms that answers are to have."""
    forms = ("forms_compiled", "forms_refused", "forms_found", "form_seconds")
    return Counts("guessed_tokens", "accepted_tokens", *forms)


@dataclass(frozen=True, slots=True)
class GenerateParams:
    """One row of generation. `echo` is the prompt's text if the answer begins with it.

    Rows of equal `salt` and adapter share the beginnings of their prompts. `whole`: the text comes in one chunk, at the
    end. `piece`: how many tokens of the prompt one step reads. `grammar`: the form that the answer must have, if any.
    `calls`: how calls of tools are read out of the answer, where there may be any. `expected`: what the client expects
    the answer to be, from which tokens may be guessed; it changes none. `counts`: the model's own.
    """

    task: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    seed: int
    sampling: SamplingOptions = SamplingOptions()
    stops: tuple[str, ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None  # how many alternatives besides the chosen token; None: no log-probabilities
    echo: str | None = None
    salt: str = ""
    whole: bool = False
    piece: int = 64
    grammar: Grammar | None = None
    calls: CallReader | None = None
    adapter: Adapter | None = None
    expected: tuple[int, ...] = ()
    counts: Counts | None = field(default=None, compare=False, repr=False)

    @property
    def prefix_salt(self) -> str:
        """What must be equal for rows to share what is kept of their prompts."""
        return self.salt if self.adapter is None else f"{self.adapter.key}\n{self.salt}"

    @property
    def predicted_steps(self) -> float:
        """The prompt's last piece makes a token."""
        return float(max(1, ceil(len(self.prompt) / self.piece) + self.max_new_tokens - 1))

    @property
    def cost(self) -> float:
        return float(len(self.prompt) + self.max_new_tokens)

    @property
    def length(self) -> int:
        """The most tokens that the row can come to hold."""
        return len(self.prompt) + self.max_new_tokens


@dataclass(frozen=True, slots=True)
class ReadyParams:
    """A row whose answer is known already (tokenize, detokenize): it takes one step and no memory."""

    task: str
    answer: TokenIds | TextDelta
    cost: float = 1.0


class RawLogprob(NamedTuple):
    """One token's log-probability, and the likeliest tokens with theirs. nan: nothing precedes the token."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    offset: int = 0  # characters of the row's answer, an echoed prompt included, before the token


@dataclass(frozen=True, slots=True)
class TextChunk:
    """What a step adds to a row's answer. Counts are running totals of the row.

    `cached_tokens`: how many of the prompt's were not read, but found. `pieces`: text and calls of an
    answer that may call tools, in place of `text`.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[RawLogprob, ...] | None
    cached_tokens: int
    pieces: tuple[Piece, ...] = ()

    def join(self, later: TextChunk) -> TextChunk:
        """Both, as if one step had made them."""
        logprobs = None if self.logprobs is None else self.logprobs + (later.logprobs or ())
        return replace(later, text=self.text + later.text, logprobs=logprobs, pieces=self.pieces + later.pieces)
