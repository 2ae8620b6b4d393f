"""`python -m loadtests.prefix`: what a shared system prompt costs the first chat, and what it costs the next ones.

A fleet of its own with SmolLM2-135M-Instruct. Each round has a new system prompt of about 500 tokens, and three chats
one after the other: the first question, another one, and the first again. Time to first token is from the request to
the first text, over HTTP. The first and the third answer must be equal, greedy or sampled with a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.bench_models import smollm2
from loadtests.client import post
from loadtests.peers.fleet import BenchFleet
from loadtests.report import machine
from loadtests.sse import EventReader, TextStream
from shared.config.settings import Settings

WANTED = 3.0  # how many times sooner the next chat's first token comes
SYSTEM_TOKENS = 500
ANSWER_TOKENS = 24
QUESTIONS = ("Which rule comes first?", "May a ticket be changed on the day of the journey?")


class AnswerChanged(Exception):
    """The same chat was answered differently."""


@dataclass(frozen=True, slots=True)
class Chat:
    """One streamed answer. Tokens are the server's own counts."""

    first_text_s: float
    prompt_tokens: int
    cached_tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Round:
    """The chats of one system prompt, in order."""

    first: Chat
    other: Chat
    again: Chat

    @property
    def ratio(self) -> float:
        """How many times sooner the first text of another question comes."""
        return self.first.first_text_s / self.other.first_text_s


def system_prompt(number: int, tokenizer: Any) -> str:
    """Some SYSTEM_TOKENS tokens that no other number's prompt begins with."""
    text = f"You work for ferry line {number}, and answer by these rules."
    for rule in count(1):
        if len(tokenizer.encode(text)) >= SYSTEM_TOKENS:
            break
        text += f" Rule {rule}: a ticket of class {rule * 7 + number} may be changed {rule % 5} hours before departure."
    return text


async def chat(fleet: BenchFleet, system: str, question: str, sampling: dict[str, Any]) -> Chat:
    body = {
        "model": fleet.model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}],
        "max_tokens": ANSWER_TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling,
    }
    stream, reader, pieces = TextStream(started=time.perf_counter()), EventReader(), list[str]()
    async for data in post(f"{fleet.url}/v1/chat/completions", body):
        stream.feed(data, time.perf_counter())
        events = [json.loads(payload) for payload in reader.feed(data) if payload != b"[DONE]"]
        pieces += [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    stream.end()
    assert stream.time_to_first_token is not None, "an answer without text"
    assert stream.usage is not None, "no usage, though it was asked for"
    cached = stream.usage["prompt_tokens_details"]["cached_tokens"]
    return Chat(stream.time_to_first_token, stream.usage["prompt_tokens"], cached, "".join(pieces))


async def measure_round(fleet: BenchFleet, number: int, tokenizer: Any) -> Round:
    system = system_prompt(number, tokenizer)
    sampling: dict[str, Any] = {"temperature": 0} if number % 2 else {"temperature": 0.9, "seed": number}
    first = await chat(fleet, system, QUESTIONS[0], sampling)
    other = await chat(fleet, system, QUESTIONS[1], sampling)
    again = await chat(fleet, system, QUESTIONS[0], sampling)
    if first.text != again.text:
        raise AnswerChanged(f"round {number}: {first.text!r} became {again.text!r}")
    return Round(first, other, again)


def measure(rounds: int, work: Path) -> Iterator[Round]:
    """Start a fleet, chat, and stop it. Round 0 warms the server up and is not counted."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - a second that `--help` need not wait for

    folder = smollm2(Settings().home)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    fleet = BenchFleet("transformer", {"source": f"file://{folder}", "cache_memory": "512MiB"}, work)
    try:
        fleet.start()
        asyncio.run(measure_round(fleet, 0, tokenizer))
        for number in range(1, rounds + 1):
            yield asyncio.run(measure_round(fleet, number, tokenizer))
    finally:
        fleet.stop()


def summary(rounds: list[Round]) -> dict[str, Any]:
    return {
        "first_text_s": {
            name: median(getattr(each, name).first_text_s for each in rounds) for name in ("first", "other", "again")
        },
        "ratio": median(each.ratio for each in rounds),
        "wanted": WANTED,
        "answers_equal": True,  # else AnswerChanged
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="system prompts to measure, besides one to warm up")
    parser.add_argument("--out", type=Path, help="a JSON file for every figure")
    arguments = parser.parse_args()
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="prefix-", dir="/tmp", ignore_cleanup_errors=True) as work:
        for number, each in enumerate(measure(arguments.rounds, Path(work)), start=1):
            rounds.append(each)
            print(f"round {number}, {each.first.prompt_tokens} prompt tokens, first text after:")
            for name, one in (("first", each.first), ("another", each.other), ("first again", each.again)):
                print(f"  {name:12} {one.first_text_s * 1e3:6.0f} ms, {one.cached_tokens:4} tokens cached")
    found = summary(rounds)
    if arguments.out is not None:
        result = {"machine": machine(), **found, "rounds": [asdict(each) for each in rounds]}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{found['ratio']:.1f} times sooner with another question (wanted: {WANTED:g}); equal questions, equal answers"
    )
    return 0 if found["ratio"] >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
