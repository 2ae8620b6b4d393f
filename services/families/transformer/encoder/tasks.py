"""Owns what clients may ask of an encoder: vectors of texts, and masks filled in. Checks, and knows no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from services.families.transformer.encoder.masks import MaskReader
from services.families.transformer.encoder.params import Embedded, EmbedParams, Filled, FillParams
from services.nn.items import cut_dimensions, embedding_event, given_param
from services.nn.rng import derive_seed
from services.nn.text.params import TextChunk
from services.nn.text.tasks import Generation, TextLimits, check_ids
from services.nn.text.tokenizer import Vocabulary
from shared.errors import ContextTooLong, InvalidRequest
from shared.events import Item, TextDelta
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.text import CompletionRequest

# A word that is not known is one token however long it is, and spaces are none: only far more is surely too much.
CHARACTERS_A_TOKEN = 100


def check_length(text: str, limits: TextLimits, param: str) -> None:
    """Refuse without tokenising what is too long to be worth it. Raises InvalidRequest."""
    limit = CHARACTERS_A_TOKEN * limits.context
    if len(text) > limit:
        raise InvalidRequest(
            f"'{param}' may have at most {limit} characters, for {limits.context} tokens; got {len(text)}.",
            param=param,
            code="context_length_exceeded",
        )


def check_tokens(ids: Sequence[int], limits: TextLimits, param: str) -> None:
    """Raises InvalidRequest for no token, an unknown one, or more than the model reads: nothing is cut."""
    if not ids:
        raise InvalidRequest(f"'{param}' holds no token; give at least one.", param=param)
    check_ids(ids, limits.vocabulary, param)
    if len(ids) > limits.context:
        detail = f" in '{param}'; nothing is cut off" + limits.bound
        raise ContextTooLong(limit=limits.context, got=len(ids), param=param, detail=detail)


@dataclass(frozen=True, slots=True)
class EmbeddingTask:
    """`size` numbers of each text. Token ids are taken as they are, and a text gets `prefix` and special tokens."""

    encodes_slowly: ClassVar[bool] = False

    vocabulary: Vocabulary
    limits: TextLimits
    size: int
    prefix: str
    lower: bool

    def prepare(self, request: EmbeddingRequest, salt: str = "") -> list[EmbedParams]:
        dimensions = cut_dimensions(request.dimensions, self.size)
        return [
            EmbedParams(tuple(self._ids(item, _param(request, i))), dimensions, request.encoding_format)
            for i, item in enumerate(request.items)
        ]

    def _ids(self, item: object, param: str) -> Sequence[int]:
        if isinstance(item, dict):
            message = f"'{param}' must be a text or token ids; got an object."
            raise InvalidRequest(message, param=param, code="invalid_type")
        ids: list[int]
        if isinstance(item, str):
            check_length(item, self.limits, param)
            text = self.prefix + item
            ids = self.vocabulary.encode(text.lower() if self.lower else text, add_special_tokens=True)
        else:
            ids = item  # pyright: ignore[reportAssignmentType] - the schema lets nothing else through
        check_tokens(ids, self.limits, param)
        return ids

    def encode(self, chunk: Embedded) -> Item:
        event = embedding_event(chunk.vector, chunk.params.encoding)
        return Item(event.json, len(chunk.params.ids), event.head)


def _param(request: EmbeddingRequest, index: int) -> str:
    alone = isinstance(request.input, list) and isinstance(request.input[0], int)
    return "input" if alone else given_param(request, index)


@dataclass(frozen=True, slots=True)
class FillTask:
    """Puts a token in the place of each mask of a prompt; the answer is the whole text."""

    encodes_slowly: ClassVar[bool] = False

    generation: Generation
    reader: MaskReader

    def prepare(self, request: CompletionRequest, salt: str = "") -> list[FillParams]:
        self._check(request)
        sampling = self.generation.options(request)
        rows: list[FillParams] = []
        for index, prompt in enumerate(request.prompts):
            text = prompt if isinstance(prompt, str) else None
            ids, places, spans = self._read(prompt)
            if "max_tokens" in request.model_fields_set and request.max_tokens < len(places):
                raise InvalidRequest(
                    f"The prompt has {len(places)} masks, a token each; got max_tokens {request.max_tokens}.",
                    param="max_tokens",
                )
            for choice in range(request.n):
                seed = derive_seed(request.seed, index * request.n + choice)
                rows.append(FillParams(ids, places, text, spans, seed, sampling, request.logprobs))
        return rows

    def encode(self, chunk: Filled) -> TextDelta:
        params, vocabulary = chunk.params, self.generation.vocabulary
        if params.text is None:
            filled = list(params.ids)
            for place, token in zip(params.places, chunk.tokens, strict=True):
                filled[place] = token
            text = vocabulary.decode(filled)
            begins = [len(vocabulary.decode(filled[:place])) for place in params.places]
        else:
            text, begins = self.reader.fill(params.text, [*params.spans], [*chunk.tokens])
        raws = chunk.logprobs
        if raws is not None:
            raws = tuple(raw._replace(offset=begin) for raw, begin in zip(raws, begins, strict=True))
        return self.generation.event(TextChunk(text, len(params.ids), len(chunk.tokens), raws, 0))

    def _read(self, prompt: str | list[int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
        limits = self.generation.limits
        spans: list[tuple[int, int]] = []
        if isinstance(prompt, str):
            check_length(prompt, limits, "prompt")
            ids, places, spans = self.reader.read(prompt)
        else:
            ids, places = prompt, [i for i, token in enumerate(prompt) if token == self.reader.token]
        check_tokens(ids, limits, "prompt")
        if not places:
            raise InvalidRequest(
                f"This model fills masks in: the prompt needs at least one {self.reader.text}.", param="prompt"
            )
        return tuple(ids), tuple(places), tuple(spans)

    def _check(self, request: CompletionRequest) -> None:
        """Raises InvalidRequest for what is about text that goes on."""
        meant = {
            "echo": request.echo,
            "stop": bool(request.stops),
            "min_tokens": bool(request.min_tokens),
            "presence_penalty": bool(request.presence_penalty),
            "frequency_penalty": bool(request.frequency_penalty),
            "structured_outputs": request.form is not None,
        }
        for name, is_set in meant.items():
            if is_set:
                raise InvalidRequest(
                    f"{name} is for models that continue a prompt; this one fills masks in.", param=name
                )
