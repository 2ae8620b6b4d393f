"""Owns how the peers' answers are read: streamed events of OpenAI's format, or a whole answer at the end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

from loadtests.client import Answer, ServerFailed, post
from loadtests.sse import StreamCut, TextStream
from loadtests.workload import Job


async def streamed(
    url: str, body: dict[str, Any], job: Job, *, says_done: bool = True, stays_open: bool = False
) -> Answer:
    """One streamed answer, of exactly the tokens that were asked for. Raises StreamFailed.

    `says_done`: the server sends [DONE] at the end. `stays_open`: its connection outlives that, and we do not wait.
    """
    stream = TextStream(started=time.perf_counter())
    async with aclosing(cast(AsyncGenerator[bytes], post(url, body))) as pieces:
        async for data in pieces:
            stream.feed(data, time.perf_counter())
            if stays_open and stream.done:
                break
    if says_done:
        stream.end()
    if stream.finish_reason is None or stream.first_text is None:
        raise StreamCut(f"the stream ended after {stream.tokens} tokens")
    if stream.tokens != job.output_tokens:
        raise StreamCut(f"asked for {job.output_tokens} tokens, got {stream.tokens}")
    return Answer(stream.started, stream.first_text, time.perf_counter(), stream.tokens)


async def streamed_completion(url: str, model: str, job: Job) -> Answer:
    """One streamed completion of the gateway, or of another server that knows `ignore_eos`. Raises StreamFailed."""
    body = {
        "model": model,
        "prompt": job.prompt,
        "max_tokens": job.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return await streamed(f"{url}/v1/completions", body, job)


async def whole(url: str, body: dict[str, Any], job: Job, count: Callable[[bytes], int]) -> Answer:
    """One answer that is seen at its end alone; `count` reads its tokens. Raises ServerFailed."""
    started = time.perf_counter()
    data = b"".join([piece async for piece in post(url, body)])
    ended = time.perf_counter()
    if (tokens := count(data)) != job.output_tokens:
        raise ServerFailed(f"asked for {job.output_tokens} tokens, got {tokens}")
    return Answer(started, ended, ended, tokens)
