"""Owns the text operations: chat, completions, tokenize, detokenize."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, Request, Response

from services.gateway.answer_docs import call_responses, json_body
from services.gateway.calls import Desk, answered_by, json_answer
from services.gateway.chat_wire import ChatStream, Envelope, chat_completion
from services.gateway.completion_wire import CompletionStream, completion
from services.gateway.state import GatewayState
from services.gateway.text_wire import TokenCounts
from shared.events import RowEvent, TokenIds
from shared.schemas.text import ChatRequest, CompletionRequest, DetokenizeRequest, SamplingRequest, TokenizeRequest
from shared.schemas.text_results import ChatCompletion, ChatCompletionChunk, Completion, Detokenized, Tokens


def text_router(state: GatewayState) -> APIRouter:
    """Every operation reads its body by hand: limits come before parsing, and refusals name fields by path."""
    router = APIRouter(tags=["text"])
    desk = Desk(state)

    def envelopes(prefix: str) -> Callable[[str], Envelope]:
        """Those of one answer, for the model that it turns out to be of."""
        return partial(Envelope, f"{prefix}-{secrets.token_hex(12)}", int(state.tempo.now()))

    @router.post(
        "/v1/chat/completions",
        summary="Answer a conversation",
        responses=call_responses(ChatCompletion, chunk=ChatCompletionChunk),
        openapi_extra=json_body(ChatRequest),
    )
    async def chat_completions(request: Request) -> Response:
        body, wishes = await desk.read(request, ChatRequest)
        errand = await desk.admit(request, body, wishes, model=body.model, task="chat", stream=body.stream)
        envelope = envelopes("chatcmpl")
        if body.stream:
            counts = TokenCounts(body.n)

            def wire(model: str) -> ChatStream:
                return ChatStream(envelope(model), counts, include_usage=_include_usage(body))

            return desk.event_stream(errand, wire, counts)
        transcript = await desk.transcript(request, errand, choices=body.n)
        return json_answer(chat_completion(envelope(answered_by(request)), transcript))

    @router.post(
        "/v1/completions",
        summary="Continue a text",
        responses=call_responses(Completion, chunk=Completion),
        openapi_extra=json_body(CompletionRequest),
    )
    async def completions(request: Request) -> Response:
        body, wishes = await desk.read(request, CompletionRequest)
        errand = await desk.admit(request, body, wishes, model=body.model, task="completion", stream=body.stream)
        envelope = envelopes("cmpl")
        if body.stream:
            counts = TokenCounts(body.n)

            def wire(model: str) -> CompletionStream:
                return CompletionStream(envelope(model), counts, include_usage=_include_usage(body))

            return desk.event_stream(errand, wire, counts)
        transcript = await desk.transcript(request, errand, choices=body.n)
        return json_answer(completion(envelope(answered_by(request)), transcript))

    @router.post(
        "/tokenize",
        summary="The token ids of a text or a conversation",
        responses=call_responses(Tokens),
        openapi_extra=json_body(TokenizeRequest),
    )
    async def tokenize(request: Request) -> Response:
        body, wishes = await desk.read(request, TokenizeRequest)
        errand = await desk.admit(request, body, wishes, model=body.model, task="tokenize", stream=False)
        events: list[RowEvent] = []
        await desk.gather(request, errand, events.extend)
        found = [event for _, event in events if isinstance(event, TokenIds)]
        ids = [token_id for tokens in found for token_id in tokens.ids]
        strings = [text for tokens in found for text in tokens.tokens]
        return _json_of({"model": answered_by(request), "tokens": ids, "token_strings": strings, "count": len(ids)})

    @router.post(
        "/detokenize",
        summary="The text of token ids",
        responses=call_responses(Detokenized),
        openapi_extra=json_body(DetokenizeRequest),
    )
    async def detokenize(request: Request) -> Response:
        body, wishes = await desk.read(request, DetokenizeRequest)
        errand = await desk.admit(request, body, wishes, model=body.model, task="detokenize", stream=False)
        transcript = await desk.transcript(request, errand, choices=1)
        text = "".join(choice.text for _, choice in transcript.in_order())
        return _json_of({"model": answered_by(request), "prompt": text})

    return router


def _include_usage(body: SamplingRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _json_of(body: object) -> Response:
    return json_answer(json.dumps(body).encode())
