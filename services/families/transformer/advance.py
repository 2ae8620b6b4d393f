"""Owns what one step does to one row: its new token, text and end, computed without touching the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from services.engine.contract import FinishReason
from services.families.transformer.params import GenerateParams, RawLogprob, TextChunk
from services.families.transformer.sampling import token_logprob
from services.families.transformer.state import RowState
from services.families.transformer.text import Detokenizer, TextState, scan_stops


class Spoken(NamedTuple):
    """A row's text after one more token. Fields as in RowState; `chunk` and `finish` go to the client."""

    text: TextState
    held: str
    characters: int
    logprobs: tuple[tuple[int, RawLogprob], ...]
    chunk: TextChunk | None
    finish: FinishReason | None


@dataclass(frozen=True, slots=True)
class Advance:
    """One row's step, ready to commit. `fed` tokens entered the cache; `token` was chosen, unless more prompt comes.

    `finite` False: the row's values are no numbers, and it has failed.
    """

    row: RowState
    fed: int
    finite: bool
    prompt_logprobs: tuple[RawLogprob, ...] = ()
    token: int | None = None
    spoken: Spoken | None = None

    @property
    def units(self) -> float:
        """Prompt tokens read and tokens made."""
        read = 0 if self.row.decoding else self.fed
        return float(read + (self.token is not None))


class RowText:
    """Turns a row's tokens into its answer: whole characters, stop strings, end tokens, log-probabilities."""

    def __init__(self, detokenizer: Detokenizer, eos: frozenset[int]) -> None:
        self._detokenizer, self._eos = detokenizer, eos
        self.eos = tuple(sorted(eos))

    def start(self, params: GenerateParams) -> TextState:
        return self._detokenizer.start(params.prompt)

    def speak(self, row: RowState, token: int, logprob: RawLogprob | None, prompt: Sequence[RawLogprob]) -> Spoken:
        """Add the token to the row's answer. An end token is counted, but is no text and has no log-probability."""
        params = row.params
        made = row.generated + 1
        ended = token in self._eos and not params.ignore_eos
        last = ended or made == params.max_new_tokens
        state, new = (row.text, "") if ended else self._detokenizer.push(row.text, token)
        if last:
            new += self._detokenizer.flush(state)
        characters = row.characters + len(new)
        entries = row.logprobs
        if logprob is not None and not ended:
            start = len(params.echo or "") + row.characters
            entries = (*entries, (characters, logprob._replace(offset=start)))

        scan = scan_stops(row.held + new, params.stops, armed=made >= params.min_tokens)
        finish = FinishReason.STOP if ended or scan.stopped else FinishReason.LENGTH if last else None
        text = scan.text + scan.held if last and not scan.stopped else scan.text
        out = row.characters - len(row.held) + len(text)  # characters that have left, this text included
        given = tuple(entry for end, entry in entries if end <= out)
        chunk = None
        if text or given or finish is not None or (made == 1 and params.echo is not None):
            chunk = self._chunk(row, made, text, given, prompt)
        return Spoken(state, scan.held, characters, entries[len(given) :], chunk, finish)

    def _chunk(
        self, row: RowState, made: int, text: str, given: tuple[RawLogprob, ...], prompt: Sequence[RawLogprob]
    ) -> TextChunk:
        params = row.params
        if made == 1 and params.echo is not None:
            text = params.echo + text
            given = (*self._placed(params, prompt), *given)
        logprobs = None if params.logprobs is None else given
        return TextChunk(text, len(params.prompt), made, logprobs, row.cached)

    def _placed(self, params: GenerateParams, scored: Sequence[RawLogprob]) -> list[RawLogprob]:
        """The prompt's log-probabilities at their places in the echo; special tokens take no room in it."""
        state, at, end = self._detokenizer.start(()), 0, len(params.echo or "")
        placed: list[RawLogprob] = []
        for raw in scored:
            placed.append(raw._replace(offset=min(at, end)))
            state, piece = self._detokenizer.push(state, raw.token)
            at += len(piece)
        return placed


def score_prompt(row: RowState, piece: Sequence[int], logits: Tensor) -> tuple[RawLogprob, ...]:
    """The log-probabilities of the tokens that follow each of the piece's tokens; logits (len(piece), V).

    The prompt's first token follows nothing: its log-probability is nan.
    """
    alternatives = row.params.logprobs or 0
    prompt = row.params.prompt
    scored = list(row.prompt_logprobs) or [RawLogprob(prompt[0], float("nan"), ())]
    for offset in range(len(piece)):
        following = row.length + offset + 1
        if following < len(prompt):
            scored.append(token_logprob(logits[offset], prompt[following], alternatives))
    return tuple(scored)
