"""Owns what clients may ask of any model of text: completion, tokenize, detokenize. Never sees a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import ClassVar

from services.engine.counts import Counts
from services.nn.rng import derive_seed
from services.nn.text.call_plans import CallPlan
from services.nn.text.conversations import ConversationEncoder, characters_of, check_tools_of
from services.nn.text.grammar import Grammar, Grammars
from services.nn.text.params import (
    Adapter,
    GenerateParams,
    RawLogprob,
    ReadyParams,
    SamplingOptions,
    TextChunk,
    text_counts,
)
from services.nn.text.tokenizer import Vocabulary
from shared.config.text import SamplingDefaults
from shared.errors import ContextTooLong, InvalidRequest, UnsupportedTask
from shared.events import TextDelta, TokenIds, TokenLogprob, ToolCallDelta
from shared.schemas.forms import AnswerForm
from shared.schemas.text import (
    CompletionRequest,
    DetokenizeRequest,
    SamplingRequest,
    TokenizeRequest,
)

# Below this a temperature is 0, greedy: float32 cannot tell the draw from the likeliest token, nor divide by it safely.
LEAST_TEMPERATURE = 1e-5
# Tokenize and detokenize never meet the model, but their answer is one message: this many contexts of tokens at most.
READY_CONTEXTS = 16


@dataclass(frozen=True, slots=True)
class TextLimits:
    """`context`: prompt and answer, in tokens; `bound` says what sets it. `vocabulary`: ids are below it.

    `piece`: how many tokens of a prompt one step reads.
    """

    context: int
    bound: str
    vocabulary: int
    piece: int = 64

    def check_ready(self, got: int, param: str, *, unit: str = "tokens", each: int = 1) -> None:
        """Raises InvalidRequest for more units than READY_CONTEXTS contexts hold, at `each` units a token."""
        limit = READY_CONTEXTS * self.context * each
        if got > limit:
            raise InvalidRequest(
                f"Tokenize and detokenize take at most {limit} {unit}, for {READY_CONTEXTS} times the context of "
                f"{self.context} tokens; got {got}.",
                param=param,
            )


@dataclass(frozen=True, slots=True)
class Generation:
    """What chat and completion share: from checked prompts to rows, and from chunks to events.

    `grammars` None: answers of the model cannot be held to a form. `adapter`: what changes the model for these rows.
    `counts`: of the model that these tasks are of.
    """

    vocabulary: Vocabulary
    limits: TextLimits
    defaults: SamplingDefaults
    grammars: Grammars | None = None
    adapter: Adapter | None = None
    counts: Counts = field(default_factory=text_counts)

    def check_text(self, characters: int, param: str) -> None:
        """Refuse without tokenising what exceeds the context even if every token were the longest: ContextTooLong."""
        limit, longest = self.limits.context, self.vocabulary.longest
        if characters > limit * longest:
            detail = f" or more ({characters} characters in the {param})" + self.limits.bound
            raise ContextTooLong(limit=limit, got=ceil(characters / longest), param=param, detail=detail)

    def row_length(self, prompt: Sequence[int], asked: int | None, param: str) -> int:
        """New tokens that the row may make; `asked` None is up to the end of the context. Raises ContextTooLong."""
        got, limit = len(prompt), self.limits.context
        if got == 0:
            raise InvalidRequest("The prompt holds no token; give at least one.", param=param)
        wanted = 1 if asked is None else asked
        if got + wanted > limit:
            detail = f" ({got} in the {param}, {wanted} to generate)"
            raise ContextTooLong(limit=limit, got=got + wanted, param=param, detail=detail + self.limits.bound)
        return limit - got if asked is None else asked

    def expected(self, text: str) -> list[int]:
        """What a client expects an answer to be. Raises ContextTooLong where none can have so many tokens."""
        self.check_text(len(text), "prediction")
        tokens, limit = self.vocabulary.encode(text), self.limits.context
        if len(tokens) > limit:
            detail = " in the prediction" + self.limits.bound
            raise ContextTooLong(limit=limit, got=len(tokens), param="prediction", detail=detail)
        return tokens

    def options(self, request: SamplingRequest) -> SamplingOptions:
        """What the request says, else the model's configured defaults; below LEAST_TEMPERATURE is greedy."""
        defaults = self.defaults
        temperature = defaults.temperature if request.temperature is None else request.temperature
        return SamplingOptions(
            temperature=temperature if temperature >= LEAST_TEMPERATURE else 0.0,
            top_k=defaults.top_k if request.top_k is None else request.top_k,
            top_p=defaults.top_p if request.top_p is None else request.top_p,
            min_p=defaults.min_p if request.min_p is None else request.min_p,
            repetition_penalty=1.0 if request.repetition_penalty is None else request.repetition_penalty,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            bias=self._bias(request),
        )

    def _bias(self, request: SamplingRequest) -> dict[int, float]:
        bias: dict[int, float] = {}
        for key, value in (request.logit_bias or {}).items():
            if not (key.isascii() and key.isdigit() and int(key) < self.limits.vocabulary):
                raise InvalidRequest(
                    f"logit_bias takes token ids from 0 to {self.limits.vocabulary - 1}; got '{key[:32]}'.",
                    param="logit_bias",
                )
            bias[int(key)] = value
        return bias

    def rows(
        self,
        request: SamplingRequest,
        *,
        task: str,
        prompts: Sequence[tuple[Sequence[int], int, str | None]],
        logprobs: int | None,
        salt: str,
        calls: CallPlan | None = None,
        expected: Sequence[int] = (),
    ) -> list[GenerateParams]:
        """`n` rows of each (prompt, new tokens, echo), prompt by prompt; row i draws from the seed of (seed, i).

        `calls`: how they may call tools, and what form holds them to it, in place of the request's own. `expected`:
        what their answers may turn out to be.
        """
        fewest = request.min_tokens or 0
        for _, length, _ in prompts:
            if fewest > length:
                raise InvalidRequest(
                    f"min_tokens is at most max_tokens, {length} here; got {fewest}.", param="min_tokens"
                )
        options = self.options(request)
        grammar = self._grammar(request.form if calls is None else calls.form, salt)
        seeds = [
            [derive_seed(request.seed, i * request.n + choice) for choice in range(request.n)]
            for i in range(len(prompts))
        ]
        return [
            GenerateParams(
                task=task,
                prompt=tuple(prompt),
                max_new_tokens=length,
                seed=seed,
                sampling=options,
                stops=request.stops,
                min_tokens=fewest,
                ignore_eos=request.ignore_eos,
                logprobs=logprobs,
                echo=echo,
                salt=salt,
                piece=self.limits.piece,
                grammar=grammar,
                calls=None if calls is None else calls.reader(seed, prompt),
                adapter=self.adapter,
                expected=tuple(expected),
                counts=self.counts,
            )
            for (prompt, length, echo), own in zip(prompts, seeds, strict=True)
            for seed in own
        ]

    def _grammar(self, form: AnswerForm | None, salt: str) -> Grammar | None:
        if form is None:
            return None
        if self.grammars is None:
            raise InvalidRequest("This model's answers cannot be held to a form.", param=form.param)
        return self.grammars.compile(form, salt, self.counts)

    def event(self, chunk: TextChunk) -> TextDelta:
        logprobs = None if chunk.logprobs is None else tuple(self._logprob(raw) for raw in chunk.logprobs)
        return TextDelta(chunk.text, chunk.prompt_tokens, chunk.completion_tokens, logprobs, chunk.cached_tokens)

    def events(self, chunk: TextChunk) -> tuple[TextDelta | ToolCallDelta, ...]:
        """Of an answer that may call tools: text and calls in order. Log-probabilities go before, of calls too."""
        counts = (chunk.prompt_tokens, chunk.completion_tokens, chunk.cached_tokens)
        events: list[TextDelta | ToolCallDelta] = []
        if chunk.logprobs:
            events.append(self.event(replace(chunk, text="")))
        for piece in chunk.pieces:
            if isinstance(piece, str):
                none = None if chunk.logprobs is None else ()
                events.append(TextDelta(piece, chunk.prompt_tokens, chunk.completion_tokens, none, chunk.cached_tokens))
            else:
                events.append(ToolCallDelta(*piece, *counts))
        return tuple(events)

    def _logprob(self, raw: RawLogprob) -> TokenLogprob:
        top = tuple(self._logprob(RawLogprob(token, logprob, ())) for token, logprob in raw.top)
        data = self.vocabulary.token_bytes(raw.token)
        return TokenLogprob(data.decode(errors="replace"), raw.token, tuple(data), raw.logprob, top, raw.offset)


@dataclass(frozen=True, slots=True)
class CompletionTask:
    """Continues prompts, given as texts or as token ids. Special tokens come from ids alone, never from text."""

    encodes_slowly: ClassVar[bool] = False

    generation: Generation

    def prepare(self, request: CompletionRequest, salt: str = "") -> list[GenerateParams]:
        if not request.prompts:
            raise InvalidRequest("The list of prompts is empty; give at least one.", param="prompt")
        prompts: list[tuple[Sequence[int], int, str | None]] = []
        for prompt in request.prompts:
            ids = self._ids(prompt)
            length = self.generation.row_length(ids, request.max_tokens, "prompt")
            echo = self._text(prompt) if request.echo else None
            prompts.append((ids, length, echo))
        return self.generation.rows(request, task="completion", prompts=prompts, logprobs=request.logprobs, salt=salt)

    def encode(self, chunk: TextChunk) -> TextDelta:
        return self.generation.event(chunk)

    def _ids(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            self.generation.check_text(len(prompt), "prompt")
            return self.generation.vocabulary.encode(prompt, add_special_tokens=True)
        check_ids(prompt, self.generation.limits.vocabulary, "prompt")
        return prompt

    def _text(self, prompt: str | list[int]) -> str:
        return prompt if isinstance(prompt, str) else self.generation.vocabulary.decode(prompt)


@dataclass(frozen=True, slots=True)
class TokenizeTask:
    """Ids of a prompt or of a conversation, as completion and chat would read it. Bounded by READY_CONTEXTS."""

    encodes_slowly: ClassVar[bool] = False

    vocabulary: Vocabulary
    limits: TextLimits
    encoder: ConversationEncoder | None
    model: str
    others: tuple[str, ...] = ("completion",)  # what a model without chat does

    def prepare(self, request: TokenizeRequest, salt: str = "") -> list[ReadyParams]:
        if request.messages is None:
            param, prompt = "prompt", request.prompt or ""
            self._check_text(len(prompt), param)
            ids = self.vocabulary.encode(prompt, add_special_tokens=request.add_special_tokens)
        elif self.encoder is None:
            raise UnsupportedTask(model=self.model, task="chat", tasks=(*self.others, "tokenize", "detokenize"))
        else:
            param = "messages"
            check_tools_of(self.encoder, request.tools)
            self._check_text(characters_of(request.messages, request.tools), param)
            ids = self.encoder.encode(request.messages, request.tools or ())
        self.limits.check_ready(len(ids), param)
        tokens = tuple(self.vocabulary.token_bytes(i).decode(errors="replace") for i in ids)
        return [ReadyParams("tokenize", TokenIds(tuple(ids), tokens))]

    def _check_text(self, characters: int, param: str) -> None:
        """Refuse without tokenising what is too long even if every token were the longest."""
        self.limits.check_ready(characters, param, unit="characters", each=self.vocabulary.longest)

    def encode(self, chunk: TokenIds) -> TokenIds:
        return chunk


@dataclass(frozen=True, slots=True)
class DetokenizeTask:
    """Text of token ids, special tokens included. Bounded by READY_CONTEXTS."""

    encodes_slowly: ClassVar[bool] = False

    vocabulary: Vocabulary
    limits: TextLimits

    def prepare(self, request: DetokenizeRequest, salt: str = "") -> list[ReadyParams]:
        self.limits.check_ready(len(request.tokens), "tokens")
        check_ids(request.tokens, self.vocabulary.size, "tokens")
        text = self.vocabulary.decode(request.tokens, skip_special_tokens=False)
        return [ReadyParams("detokenize", TextDelta(text, len(request.tokens), 0))]

    def encode(self, chunk: TextDelta) -> TextDelta:
        return chunk


def check_ids(ids: Sequence[int], vocabulary: int, param: str) -> None:
    """Raises InvalidRequest for an id outside [0, vocabulary)."""
    for i in ids:
        if not 0 <= i < vocabulary:
            raise InvalidRequest(f"Token ids go from 0 to {vocabulary - 1}; got {i}.", param=param)
