"""Owns what clients may ask of a causal language model beyond what every model of text takes: chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.nn.text.params import GenerateParams, TextChunk
from services.nn.text.tasks import ConversationEncoder, Generation
from shared.errors import InvalidRequest
from shared.events import TextDelta
from shared.schemas.text import ChatRequest


@dataclass(frozen=True, slots=True)
class ChatTask:
    encodes_slowly: ClassVar[bool] = False

    generation: Generation
    encoder: ConversationEncoder

    def prepare(self, request: ChatRequest, salt: str = "") -> list[GenerateParams]:
        if request.tools:
            raise InvalidRequest("This model cannot call tools.", param="tools", code="unsupported_parameter")
        self.generation.check_text(sum(len(message.text) for message in request.messages), "messages")
        prompt = self.encoder.encode(request.messages)
        length = self.generation.row_length(prompt, request.max_new_tokens, "messages")
        logprobs = (request.top_logprobs or 0) if request.logprobs else None
        prompts = [(prompt, length, None)]
        return self.generation.rows(request, task="chat", prompts=prompts, logprobs=logprobs, salt=salt)

    def encode(self, chunk: TextChunk) -> TextDelta:
        return self.generation.event(chunk)
