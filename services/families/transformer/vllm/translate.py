"""Owns the two ways between a row and vLLM: what a row asks for in vLLM's words, and what vLLM said in ours.

Imports no vLLM: the names are those of its `SamplingParams`, `StructuredOutputsParams` and `RequestOutput`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, Protocol

from services.families.transformer.vllm.client import Made, Piece
from services.nn.text.grammar import form_rule
from services.nn.text.params import GenerateParams, RawLogprob
from shared.schemas.forms import AnswerForm

LEAST_TEMPERATURE = 0.01  # vLLM raises smaller ones to this, and says so in its log each time
_SEEDS = 2**63  # vLLM's are signed, and -1 means none


class TokenChance(Protocol):
    """vLLM's `Logprob`. `rank` is 1 for the likeliest token."""

    @property
    def logprob(self) -> float: ...
    @property
    def rank(self) -> int | None: ...


Position = Mapping[int, TokenChance]  # of one place: the chosen token's, and the likeliest ones'


class Completion(Protocol):
    """vLLM's `CompletionOutput`, of new tokens alone."""

    @property
    def token_ids(self) -> Sequence[int]: ...
    @property
    def logprobs(self) -> Sequence[Position] | None: ...
    @property
    def finish_reason(self) -> str | None: ...


class Answer(Protocol):
    """vLLM's `RequestOutput`."""

    @property
    def prompt_logprobs(self) -> Sequence[Position | None] | None: ...
    @property
    def outputs(self) -> Sequence[Completion]: ...
    @property
    def num_cached_tokens(self) -> int | None: ...


def sampling_fields(params: GenerateParams, eos: Sequence[int]) -> dict[str, Any]:
    """The arguments of `SamplingParams`. Stop strings are not among them: text is made here.

    `eos` end an answer. A row that is to make no token makes one that nobody sees: vLLM makes at least one.
    """
    options = params.sampling
    drawn = options.temperature > 0
    return {
        "max_tokens": max(1, params.max_new_tokens),
        "min_tokens": min(params.min_tokens, max(1, params.max_new_tokens)),
        "temperature": max(options.temperature, LEAST_TEMPERATURE) if drawn else 0.0,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "repetition_penalty": options.repetition_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "logit_bias": dict(options.bias) or None,
        "seed": params.seed % _SEEDS if drawn else None,
        "stop_token_ids": [] if params.ignore_eos else list(eos),
        "ignore_eos": True,  # those above are all that end an answer
        "logprobs": params.logprobs,
        "prompt_logprobs": params.logprobs if params.echo is not None else None,
        "detokenize": False,
    }


def form_fields(form: AnswerForm) -> dict[str, str]:
    """The arguments of `StructuredOutputsParams` for a form, as our own decoders follow it: llguidance reads both."""
    return {"grammar": str(form.text) if form.kind == "lark" else form_rule("start", form)}


def piece_of(answer: Answer, params: GenerateParams) -> Piece:
    """What vLLM said of a row, of one choice, since the last time."""
    (completion,) = answer.outputs
    places = completion.logprobs if params.logprobs is not None else None
    tokens = completion.token_ids
    if places is None:
        made = tuple(Made(token) for token in tokens)
    else:
        made = tuple(Made(t, _raw(t, place, params.logprobs)) for t, place in zip(tokens, places, strict=True))
    reason = completion.finish_reason
    return Piece(
        made,
        cached=answer.num_cached_tokens or 0,
        prompt_logprobs=_prompt(params, answer.prompt_logprobs),
        failed=None if reason in (None, "stop", "length") else reason,
    )


def _prompt(params: GenerateParams, places: Sequence[Position | None] | None) -> tuple[RawLogprob, ...]:
    """The first token of a prompt follows nothing: its log-probability is nan."""
    if not places or params.echo is None or params.logprobs is None:
        return ()
    return tuple(
        RawLogprob(token, nan, ()) if place is None else _raw(token, place, params.logprobs)
        for token, place in zip(params.prompt, places, strict=True)
    )


def _raw(token: int, place: Position, alternatives: int | None) -> RawLogprob:
    """vLLM puts the chosen token among the likeliest ones, whatever its rank; here it is beside them."""
    wanted = alternatives or 0
    ranked = sorted((chance.rank or 0, i, chance.logprob) for i, chance in place.items())
    top = tuple((i, logprob) for rank, i, logprob in ranked if 0 < rank <= wanted)[:wanted]
    return RawLogprob(token, place[token].logprob, top)
