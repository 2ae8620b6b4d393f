"""Owns the configuration of the family upstream: models of OpenAI-compatible servers, reached by URL and secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator

from shared.config.base import ConfigModel, ModelEntry, ServiceEntry
from shared.config.text import message_tokens, tools_tokens
from shared.schemas.text import ChatRequest, CompletionRequest

UpstreamTask = Literal["chat", "completion"]
UNSTATED_TOKENS = 4096  # what an answer is taken for where neither the request nor the configuration bounds it
_LABEL = "[A-Za-z0-9_-]{1,63}"  # a name that is not ASCII is written as xn--...
ADDRESS = re.compile(rf"^https?://(({_LABEL}\.)*{_LABEL}\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{{1,5}})?(/[^\s?#]*)?$")


class Timeouts(ConfigModel):
    """In seconds. A request's own deadline shortens both; it alone bounds the wait for an answer in one piece."""

    connect_s: float = Field(default=5, gt=0)
    silence_s: float = Field(default=120, gt=0, description="the longest wait for the next bytes of a stream")


class Retries(ConfigModel):
    """Tries before the first byte, `attempts` in all, with a random pause: up to `base_s`, then twice that, and so on.

    No pause is longer than `longest_s`: a server that asks for a longer one by `Retry-After` is not tried again.
    """

    attempts: int = Field(default=3, ge=1, le=10)
    base_s: float = Field(default=0.25, gt=0)
    longest_s: float = Field(default=8, gt=0)


class CircuitBreaker(ConfigModel):
    """After `failures` in a row nothing is sent for `pause_s` seconds; then one request tries it out."""

    failures: int = Field(default=5, ge=1)
    pause_s: float = Field(default=10, gt=0)


class UpstreamModel(ModelEntry):
    """A model of a remote server, which calls it `remote_id`. `context_length` bounds what a request can cost."""

    MODALITIES: ClassVar = ("text",)

    remote_id: str = Field(min_length=1, max_length=256)
    tasks: tuple[UpstreamTask, ...] = Field(default=("chat", "completion"), min_length=1)
    context_length: int | None = Field(default=None, ge=16)

    @property
    def does(self) -> tuple[str, ...]:
        return self.tasks

    @field_validator("tasks")
    @classmethod
    def _distinct(cls, tasks: tuple[UpstreamTask, ...]) -> tuple[UpstreamTask, ...]:
        if len(set(tasks)) < len(tasks):
            raise ValueError("a task is named twice")
        return tasks

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """Tokens read and written, at most: no token is shorter than a byte, and none is beyond the context.

        Where nothing bounds an answer, it counts as `UNSTATED_TOKENS`: the remote server alone knows.
        """
        match body:
            case ChatRequest():
                prompt = tools_tokens(body.callable_tools) + sum(map(message_tokens, body.messages))
                prompts, longest = [prompt], body.max_new_tokens
            case CompletionRequest():
                prompts = [len(prompt.encode() if isinstance(prompt, str) else prompt) for prompt in body.prompts]
                longest = body.max_tokens
            case _:
                raise TypeError(f"an upstream has no {type(body).__name__}")
        if self.context_length is not None:
            prompts = [min(prompt, self.context_length) for prompt in prompts]
            longest = min(longest or self.context_length, self.context_length)
        return float(sum(prompts) + len(prompts) * body.n * (longest or UNSTATED_TOKENS))


class UpstreamService(ServiceEntry):
    """An OpenAI-compatible server. Only the name of its key is written here: the key is in the environment."""

    family: Literal["upstream"]
    url: str = Field(
        max_length=2048,
        description="what comes before /chat/completions, as https://api.openai.com/v1",
        json_schema_extra={"pattern": ADDRESS.pattern},
    )
    secret_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="the environment variable that holds the server's key; None: it takes none",
    )
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    breaker: CircuitBreaker = CircuitBreaker()
    max_ongoing: int = Field(
        default=256,
        ge=1,
        description="requests that one gateway has open there; more are refused. No tenant gets the last few",
    )
    models: tuple[UpstreamModel, ...] = Field(min_length=1)

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        """An address and nothing else: a key in it would end up in logs. No message quotes it, for that reason."""
        if "@" in url.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("the URL must hold no credentials: name the variable that does in secret_env")
        if "?" in url or "#" in url:
            raise ValueError("the URL must have no query and no fragment")
        if not (ADDRESS.fullmatch(url) and url.isprintable()):
            raise ValueError("the URL must be http://... or https://..., with a host name in ASCII")
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for none that there is
        _check_host(parts.hostname or "")
        return url


def _check_host(host: str) -> None:
    """Raises ValueError for a host that no connection can be made to, whoever is asked for its address."""
    *_, last = host.rstrip(".").split(".")
    if ":" in host:
        IPv6Address(host)
    elif last.isdecimal():
        IPv4Address(host)
    elif len(host) > 253:
        raise ValueError("the URL's host name is longer than names may be")
    host.encode().decode("idna")  # what xn-- stands for
