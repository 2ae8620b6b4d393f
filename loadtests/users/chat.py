"""Owns the person who chats: streams an answer, reads it, asks again."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from locust import HttpUser, between, task
from requests.exceptions import RequestException

from loadtests.prompts import QUESTIONS
from loadtests.sse import StreamFailed, TextStream

CHAT = "/v1/chat/completions"
READ_TIMEOUT_S = 120


class ChatUser(HttpUser):
    """Beside Locust's own row for the request, each answer adds two metrics: time to first token (ms) and tokens/s."""

    wait_time = between(0.1, 1.0)

    def on_start(self) -> None:
        options = self.environment.parsed_options
        self.max_tokens: int = options.max_tokens
        self.rng = random.Random(options.seed)
        # From the environment alone: an option would show in the process list and in Locust's page.
        if key := os.environ.get("CASTALIA_API_KEY"):
            self.client.headers["Authorization"] = f"Bearer {key}"
        self.model = options.model or self._first_chat_model()

    def _first_chat_model(self) -> str:
        models = self.client.get("/v1/models").json()["data"]
        return next(model["id"] for model in models if "chat" in model["tasks"])

    @task
    def ask(self) -> None:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.rng.choice(QUESTIONS)}],
            "max_tokens": self.rng.randint(max(1, self.max_tokens // 4), self.max_tokens),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        stream = TextStream(started=time.perf_counter())
        with self.client.post(CHAT, json=body, stream=True, catch_response=True, timeout=READ_TIMEOUT_S) as response:
            try:
                response.raise_for_status()
                for data in response.iter_content(chunk_size=None):
                    stream.feed(data, time.perf_counter())
                stream.end()
            except (RequestException, StreamFailed) as error:
                response.failure(error)
            # Locust times a streamed request up to its headers; what a person waits for is its end.
            elapsed = (time.perf_counter() - stream.started) * 1000
            response.request_meta = {**response.request_meta, "response_time": elapsed, "response_length": stream.size}
        self._report(stream)

    def _report(self, stream: TextStream) -> None:
        if (waited := stream.time_to_first_token) is not None:
            self._metric("time to first token", "ms", waited * 1000, stream)
        if (rate := stream.tokens_per_second) is not None:
            self._metric("tokens per second", "1/s", rate, stream)

    def _metric(self, name: str, unit: str, value: float, stream: TextStream) -> None:
        meta: dict[str, Any] = {"response_length": stream.tokens, "exception": None, "context": self.context()}
        self.environment.events.request.fire(request_type=unit, name=name, response_time=value, **meta)
