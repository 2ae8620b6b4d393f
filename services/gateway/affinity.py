"""Owns what makes requests belong together: a session's name, or the beginning of a prompt. Keeps neither: only a hash.

The tenant is part of the hash: no two of them share a prefix cache, so nothing is gained where they meet.
"""

from __future__ import annotations

from hashlib import blake2b

from pydantic import BaseModel
from starlette.datastructures import Headers

from services.gateway.headers import session_of
from shared.config.routes import Affinity
from shared.schemas.text import ChatMessage, ChatRequest, CompletionRequest, SamplingRequest, TokenizeRequest

PREFIX_CHARACTERS = 256  # long enough to tell system prompts apart, short enough to begin alike in every turn
PREFIX_TOKENS = 64


def affinity_key(kind: Affinity, headers: Headers, body: BaseModel, tenant: str) -> str | None:
    """What requests that belong together share; None for one that belongs to no other. Raises InvalidRequest.

    `session`: the header `x-castalia-session`, else the body's `prompt_cache_key` or `user`. `prefix`: how the prompt
    begins.
    """
    match kind:
        case "session":
            text = session_of(headers) or _named_in(body)
        case "prefix":
            text = _beginning(body)
        case "none":
            text = None
    return blake2b(f"{tenant}\0{text}".encode(), digest_size=16).hexdigest() if text else None


def _named_in(body: BaseModel) -> str | None:
    return (body.prompt_cache_key or body.user) if isinstance(body, SamplingRequest) else None


def _beginning(body: BaseModel) -> str | None:
    """A list of prompts begins as its first does."""
    match body:
        case ChatRequest():
            return _opening(body.messages)
        case CompletionRequest():
            prompt = body.prompts[0]
            if isinstance(prompt, str):
                return prompt[:PREFIX_CHARACTERS]
            return ",".join(map(str, prompt[:PREFIX_TOKENS]))
        case TokenizeRequest():
            return _opening(body.messages) if body.messages else (body.prompt or "")[:PREFIX_CHARACTERS]
        case _:
            return None


def _opening(messages: list[ChatMessage]) -> str:
    """Up to the end of the user's first words: what every later turn of the conversation begins with."""
    opening = ""
    for message in messages:
        opening += f"{message.role}\0{message.text}\0"[:PREFIX_CHARACTERS]
        if message.role == "user" or len(opening) >= PREFIX_CHARACTERS:
            break
    return opening[:PREFIX_CHARACTERS]
