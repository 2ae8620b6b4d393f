"""Owns a generating row of text: its draws, its answer so far, and what one more token makes of it.

Computing what a token makes (`RowText.speak`) leaves the row as it is; only `TextRow.take` changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from services.engine.contract import FinishReason
from services.nn.rng import row_generator
from services.nn.text.calls import CallState, Piece
from services.nn.text.detokenizer import Detokenizer, TextState, scan_stops
from services.nn.text.grammar import Follower
from services.nn.text.params import GenerateParams, RawLogprob, TextChunk
from services.nn.text.sampling import Choice, Seen, token_logprob


@dataclass(slots=True, eq=False)
class TextRow:
    """What rows of every model of text hold. Only a step's commit changes it.

    `token` is chosen and not read by the model yet (None: the prompt is still being read). `draws` are those to come;
    they stay until tokens are taken, so that a step that fails has drawn nothing. `follower`: where the answer stands
    in its form, if it has one; it may have looked a token further than the row, and goes back by itself.
    """

    params: GenerateParams
    seen: Seen
    text: TextState
    cached: int = 0  # tokens of the prompt that were found instead of read
    token: int | None = None
    generated: int = 0
    held: str = ""  # text that may be the beginning of a stop string
    characters: int = 0  # of text made so far, held text included
    logprobs: tuple[tuple[int, RawLogprob], ...] = ()  # of held text: (characters made at its end, it)
    kept: str = ""  # text that goes out with the row's end, where the answer is to come whole
    calling: CallState = field(default_factory=CallState)  # where the answer stands among its calls of tools
    prompt_logprobs: tuple[RawLogprob, ...] = ()
    rng: torch.Generator = field(init=False)
    draws: list[float] = field(init=False, default_factory=list[float])
    follower: Follower | None = field(init=False)

    def __post_init__(self) -> None:
        grammar = self.params.grammar
        self.follower = None if grammar is None else grammar.follow()
        if self.params.calls is not None:
            self.calling = self.params.calls.start()
        self.rng = row_generator(self.params.seed)

    @property
    def decoding(self) -> bool:
        return self.token is not None

    @property
    def wants_prompt_logprobs(self) -> bool:
        return self.params.echo is not None and self.params.logprobs is not None

    def uniform(self, ahead: int = 0) -> float:
        """The draw of the token that is `ahead` behind the next one, in [0, 1)."""
        while len(self.draws) <= ahead:
            self.draws.append(torch.rand((), generator=self.rng).item())
        return self.draws[ahead]

    @property
    def foresees(self) -> bool:
        """Whether how a token is chosen does not depend on those before it, but by the logits."""
        return self.follower is None and self.seen.is_empty

    def choice(self, eos: tuple[int, ...], ahead: int = 0) -> Choice:
        """Of the next token, or of one that is so many behind it, if the row foresees."""
        banned = eos if self.generated + ahead < self.params.min_tokens else ()
        if self.follower is None:
            return Choice(self.params.sampling, self.seen, self.uniform(ahead), banned)
        allowed = self.follower.allowed(self.generated)
        if banned and self.follower.ends(allowed):
            banned = ()  # a whole answer ends, however short it is
        return Choice(self.params.sampling, self.seen, self.uniform(), banned, allowed)

    def completes(self, token: int) -> bool:
        """Whether the token makes an answer of a form whole, so that nothing can follow."""
        return self.follower is not None and self.follower.completes(token, self.generated)

    def take(self, token: int, spoken: Spoken) -> None:
        """Commit a token and what it made of the answer."""
        self.token, self.generated = token, self.generated + 1
        self.text, self.held, self.characters, self.logprobs, self.kept, self.calling = spoken[:6]
        self.seen.add(token)
        del self.draws[:1]


class Spoken(NamedTuple):
    """A row's text after one more token. Fields as in TextRow; `chunk` and `finish` go to the client."""

    text: TextState
    held: str
    characters: int
    logprobs: tuple[tuple[int, RawLogprob], ...]
    kept: str
    calling: CallState
    chunk: TextChunk | None
    finish: FinishReason | None


class RowText:
    """Turns a row's tokens into its answer: whole characters, stop strings, end tokens, log-probabilities."""

    def __init__(self, detokenizer: Detokenizer, eos: frozenset[int]) -> None:
        self._detokenizer, self._eos = detokenizer, eos
        self.eos = tuple(sorted(eos))

    def start(self, params: GenerateParams) -> TextState:
        return self._detokenizer.start(params.prompt)

    def speak(
        self,
        row: TextRow,
        token: int,
        logprob: RawLogprob | None,
        prompt: Sequence[RawLogprob],
        earlier: Sequence[Spoken] = (),
    ) -> Spoken:
        """Add the token to the row's answer, behind the `earlier` ones of the same step, whose chunk it takes over. An
        end token is counted, but is no text. It has a log-probability where the answer begins with its prompt, as who
        scores prompts expects: an entry for each token that was made. A token that makes an answer of a form whole
        ends it, and is text.

        Of a row that is to make no token, the answer is its prompt: the token is not heeded.
        """
        params = row.params
        if params.max_new_tokens == 0:
            chunk = self._chunk(row, 0, "", (), prompt)
            return Spoken(row.text, "", 0, (), "", row.calling, chunk, FinishReason.LENGTH)
        before, made = earlier[-1] if earlier else row, row.generated + len(earlier) + 1
        ended = token in self._eos and not params.ignore_eos
        whole = not ended and row.completes(token)
        last = ended or whole or made == params.max_new_tokens
        state, new = (before.text, "") if ended else self._push(params, before.text, token)
        if last:
            new += self._detokenizer.flush(state)
        characters = before.characters + len(new)
        entries = before.logprobs
        if logprob is not None and (params.echo is not None or not ended):
            start = len(params.echo or "") + before.characters
            entries = (*entries, (characters, logprob._replace(offset=start)))

        scan = scan_stops(before.held + new, params.stops, armed=made >= params.min_tokens)
        finish = FinishReason.STOP if ended or whole or scan.stopped else FinishReason.LENGTH if last else None
        text = scan.text + scan.held if last and not scan.stopped else scan.text
        out = before.characters - len(before.held) + len(text)  # characters that have left, this text included
        given = tuple(entry for end, entry in entries if end <= out)
        if params.whole:
            text, kept = (before.kept + text, "") if finish is not None else ("", before.kept + text)
        else:
            kept = ""
        calling, pieces = before.calling, ()
        if params.calls is not None and (text or finish is not None):
            calling, pieces = params.calls.read(calling, text, last=finish is not None)
            finish, text = FinishReason.STOP if calling.is_full else finish, ""
        chunk = None
        if text or pieces or given or finish is not None or (made == 1 and params.echo is not None):
            chunk = self._chunk(row, made, text, given, prompt, pieces)
        if earlier and earlier[-1].chunk is not None:
            chunk = earlier[-1].chunk if chunk is None else earlier[-1].chunk.join(chunk)
        return Spoken(state, scan.held, characters, entries[len(given) :], kept, calling, chunk, finish)

    def _push(self, params: GenerateParams, state: TextState, token: int) -> tuple[TextState, str]:
        """Add a token to the text. The mark of calls is text even where it is a special token."""
        calls = params.calls
        if calls is not None and token == calls.mark_id:
            return self._detokenizer.start(()), self._detokenizer.flush(state) + calls.format.mark
        return self._detokenizer.push(state, token)

    def _chunk(
        self,
        row: TextRow,
        made: int,
        text: str,
        given: tuple[RawLogprob, ...],
        prompt: Sequence[RawLogprob],
        pieces: tuple[Piece, ...] = (),
    ) -> TextChunk:
        params = row.params
        if made <= 1 and params.echo is not None:
            text = params.echo + text
            given = (*self._placed(params, prompt), *given)
        logprobs = None if params.logprobs is None else given
        return TextChunk(text, len(params.prompt), made, logprobs, row.cached, pieces)

    def _placed(self, params: GenerateParams, scored: Sequence[RawLogprob]) -> list[RawLogprob]:
        """The prompt's log-probabilities at their places in the echo; special tokens take no room in it."""
        state, at, end = self._detokenizer.start(()), 0, len(params.echo or "")
        placed: list[RawLogprob] = []
        for raw in scored:
            placed.append(raw._replace(offset=min(at, end)))
            state, piece = self._detokenizer.push(state, raw.token)
            at += len(piece)
        return placed


def score_prompt(row: TextRow, start: int, piece: Sequence[int], logits: Tensor) -> tuple[RawLogprob, ...]:
    """The log-probabilities of the tokens that follow each of the piece's, which begins at `start` of the prompt.

    logits (len(piece), V).

    The prompt's first token follows nothing: its log-probability is nan.
    """
    alternatives = row.params.logprobs or 0
    prompt = row.params.prompt
    scored = list(row.prompt_logprobs) or [RawLogprob(prompt[0], float("nan"), ())]
    for offset in range(len(piece)):
        following = start + offset + 1
        if following < len(prompt):
            scored.append(token_logprob(logits[offset], prompt[following], alternatives))
    return tuple(scored)
