"""Owns what clients may ask of a causal language model beyond what every model of text takes: chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.nn.text.call_plans import plan_calls
from services.nn.text.conversations import ConversationEncoder, characters_of, check_tools_of
from services.nn.text.params import GenerateParams, TextChunk
from services.nn.text.tasks import Generation
from shared.events import TextDelta, ToolCallDelta
from shared.schemas.text import ChatRequest, text_of


@dataclass(frozen=True, slots=True)
class ChatTask:
    encodes_slowly: ClassVar[bool] = False

    generation: Generation
    encoder: ConversationEncoder

    def prepare(self, request: ChatRequest, salt: str = "") -> list[GenerateParams]:
        check_tools_of(self.encoder, request.tools)
        tools, vocabulary = request.callable_tools, self.generation.vocabulary
        self.generation.check_text(characters_of(request.messages, tools), "messages")
        calls = None
        if self.encoder.calls is not None:
            calls = plan_calls(self.encoder.calls, request, vocabulary.special_id(self.encoder.calls.mark))
        prompt = self.encoder.encode(request.messages, tools)
        if calls is not None:
            prompt += vocabulary.encode_markup(calls.opening)
        length = self.generation.row_length(prompt, request.max_new_tokens, "messages")
        logprobs = (request.top_logprobs or 0) if request.logprobs else None
        expected = () if request.prediction is None else self.generation.expected(text_of(request.prediction.content))
        return self.generation.rows(
            request,
            task="chat",
            prompts=[(prompt, length, None)],
            logprobs=logprobs,
            salt=salt,
            calls=calls,
            expected=expected,
        )

    def encode(self, chunk: TextChunk) -> TextDelta | tuple[TextDelta | ToolCallDelta, ...]:
        return self.generation.events(chunk) if chunk.pieces else self.generation.event(chunk)
