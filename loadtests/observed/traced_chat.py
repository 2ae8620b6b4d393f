"""Owns one streamed chat with a `traceparent` of its own, and fetching its spans from the collector."""

from __future__ import annotations

import secrets
import time

import httpx

from loadtests.observed.collector import Span
from loadtests.observed.trace import CHAT, ROLES, Asked, traceparent
from loadtests.prompts import QUESTIONS
from loadtests.sse import TextStream

TOKENS = 48
PROMPT = QUESTIONS[-1]  # the longest, so that it takes a while to read
PATIENCE_S = 60.0
EXPORTED_S = 20.0  # OpenTelemetry's SDK sends spans every five seconds
POLL_S = 0.5


def ask(url: str, key: str, model: str) -> Asked:
    """Raises StreamFailed, httpx.HTTPError."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Authorization": f"Bearer {key}", "traceparent": traceparent(trace, span)}
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        sent, started = time.time(), time.perf_counter()
        stream = TextStream(started=started)
        with client.stream("POST", f"{url}{CHAT}", json=body, headers=headers) as response:
            response.raise_for_status()
            for data in response.iter_raw():
                stream.feed(data, time.perf_counter())
        whole_s = time.perf_counter() - started
    stream.end()
    assert stream.time_to_first_token is not None, "a stream that ended well had text"
    return Asked(trace, span, model, sent, stream.time_to_first_token, whole_s, stream.tokens)


def all_spans(collector: str) -> list[Span]:
    """What the collector at this address has been sent so far."""
    answer = httpx.get(f"{collector}/spans", trust_env=False, timeout=PATIENCE_S)
    return [Span(**each) for each in answer.json()]


def spans_of(collector: str, trace: str) -> list[Span]:
    """Those of one trace, once they are all there, or what there is after some time."""
    deadline = time.monotonic() + EXPORTED_S
    while True:
        found = [span for span in all_spans(collector) if span.trace == trace]
        if len(found) >= len(ROLES) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)
