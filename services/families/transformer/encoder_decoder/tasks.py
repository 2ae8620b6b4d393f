"""Owns what clients may ask of an encoder-decoder: the prompt, or the last message, is the source of what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.families.transformer.tasks import ChatTask
from services.nn.text.params import GenerateParams
from services.nn.text.tasks import CompletionTask, Generation
from services.nn.text.tokenizer import Vocabulary
from shared.errors import ContextTooLong, InvalidRequest
from shared.schemas.text import ChatMessage, ChatRequest, CompletionRequest
from shared.schemas.tools import FunctionTool

_SYSTEM = ("system", "developer")


class PairGeneration(Generation):
    """As any model of text, but that source and target have the context each."""

    def row_length(self, prompt: Sequence[int], asked: int | None, param: str) -> int:
        """New tokens that the row may make; `asked` None is as many as can be. Raises ContextTooLong."""
        got, limit = len(prompt), self.limits.context
        if got == 0:
            raise InvalidRequest("The prompt holds no token; give at least one.", param=param)
        if got > limit:
            raise ContextTooLong(
                limit=limit, got=got, param=param, detail=f" in the {param}, which it reads whole" + self.limits.bound
            )
        if asked is not None and asked > limit:
            detail = " to generate" + self.limits.bound
            raise ContextTooLong(limit=limit, got=asked, param="max_tokens", detail=detail)
        return limit if asked is None else asked


def check_last(messages: Sequence[ChatMessage]) -> None:
    """Raises InvalidRequest where the last message is not the user's."""
    role = messages[-1].role
    if role != "user":
        raise InvalidRequest(
            f"This model writes what the last message of the user asks for; the last here is the {role}'s.",
            param=f"messages[{len(messages) - 1}].role",
        )


@dataclass(frozen=True, slots=True)
class SourceEncoder:
    """From texts and messages to sources. `prefix` tells a model of many purposes what to do."""

    vocabulary: Vocabulary
    prefix: str

    def source(self, text: str) -> list[int]:
        return self.vocabulary.encode(self.prefix + text, add_special_tokens=True)

    @property
    def calls(self) -> None:
        """It calls no tools."""

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[FunctionTool] = ()) -> list[int]:
        """The last message, which must be the user's, behind the system's as its prefix. Raises InvalidRequest."""
        check_last(messages)
        last = messages[-1]
        told = "".join(message.text for message in messages if message.role in _SYSTEM)
        if not told:
            return self.source(last.text)
        gap = "" if told[-1].isspace() else " "
        return self.vocabulary.encode(told + gap + last.text, add_special_tokens=True)


@dataclass(frozen=True, slots=True)
class LastMessageTask(ChatTask):
    """Answers the last message alone: what came before it is neither read nor counted."""

    def prepare(self, request: ChatRequest, salt: str = "") -> list[GenerateParams]:
        check_last(request.messages)
        told = [message for message in request.messages if message.role in _SYSTEM]
        alone = request.model_copy(update={"messages": [*told, request.messages[-1]]})
        return ChatTask.prepare(self, alone, salt)


@dataclass(frozen=True, slots=True)
class TargetTask(CompletionTask):
    """Writes a target for each prompt; nothing of a prompt is in the answer."""

    encoder: SourceEncoder

    def prepare(self, request: CompletionRequest, salt: str = "") -> list[GenerateParams]:
        if request.echo:
            raise InvalidRequest(
                "echo is for models that continue a prompt; this one writes a text of its own.", param="echo"
            )
        # A dataclass with slots is made anew, so that super() would look at the one before.
        return CompletionTask.prepare(self, request, salt)

    def _ids(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            self.generation.check_text(len(prompt), "prompt")
            return self.encoder.source(prompt)
        return CompletionTask._ids(self, prompt)
