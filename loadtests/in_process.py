"""Owns the figures that need no server: the engine beside the bare loop that bounds it, and one-by-one `generate`.

Everything runs in this process on one torch thread, fp32, greedy, ignoring the end of the text.

- *limit*: the unchanged Hugging Face model with a `DynamicCache`, the same packed linears, the same batch and the same
  mean context, in a loop of forwards and argmax.
- *steady decode*: 16 rows of equal length in the engine, from the moment all of them have begun to answer to the first
  end; no arrivals.
- *mixed load*: rows of a mix of lengths come and go, 16 run and 8 wait. Tokens of prompts count, in the limit as well:
  its time is what the bare loop needs for the same prompts, each in one forward, and the same number of decoded tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ByteSize
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils.logging import disable_progress_bar

from loadtests.workload import Job, Mix, jobs
from services.engine.async_engine import AsyncEngine
from services.engine.engine import Engine
from services.families import LoadedModel, family_loader
from services.nn.linears import pack_linears
from shared.config.transformer import TransformerModel
from shared.schemas.text import CompletionRequest

ROWS = 16
WAITING = 8
MODEL = "bench"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one model's measurements look like. `prompt` and `steps` are of steady decode; times are seconds."""

    mix: Mix
    prompt: int
    steps: int
    mixed_warm_s: float
    mixed_window_s: float
    alone: int  # how many requests one-by-one generate answers


@dataclass(slots=True)
class Rates:
    """Tokens a second, one figure a round."""

    limit: list[float] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)
    mixed: list[float] = field(default_factory=list)  # prompts and answers
    mixed_limit: list[float] = field(default_factory=list)
    mixed_decoded: list[float] = field(default_factory=list)  # answers alone
    alone: list[float] = field(default_factory=list)


class Subject:
    """One model in the three forms that are compared."""

    def __init__(self, name: str, folder: Path, plan: Plan) -> None:
        torch.set_num_threads(1)
        disable_progress_bar()
        self.name, self.plan = name, plan
        config = TransformerModel(
            id=MODEL,
            source=f"file://{folder}",
            max_batch_size=ROWS,
            cache_memory=ByteSize(2**30),
            prefix_cache=False,  # the jobs' prompts overlap, and every token of theirs counts as read
            guess_tokens=0,  # the limit makes one token a row and step
            license="unknown",
        )
        self.loaded: LoadedModel = family_loader("transformer")(config, folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.plain = _hugging_face(folder)
        self.packed = _hugging_face(folder)
        pack_linears(self.packed)
        self.vocabulary: int = self.plain.config.vocab_size

    def prompt(self, length: int) -> list[int]:
        return [(7 * i) % (self.vocabulary - 1) for i in range(length)]


def measure_round(subject: Subject, rates: Rates, number: int) -> Iterator[str]:
    """Run every measurement once, adding to `rates`; yields what has just been done."""
    plan = subject.plan
    rates.limit.append(bare_decode(subject, plan.prompt, plan.steps))
    yield "limit"
    rates.steady.append(asyncio.run(steady_decode(subject)))
    yield "steady decode"
    mixed = asyncio.run(mixed_load(subject, seed=number))
    rates.mixed.append(mixed.tokens_per_second)
    rates.mixed_decoded.append(mixed.decoded / mixed.seconds)
    yield "mixed load"
    decode_rate = bare_decode(subject, plan.mix.mean_context - plan.steps // 2, plan.steps)
    bare_s = mixed.prompts / bare_prefill(subject, seed=number) + mixed.decoded / decode_rate
    rates.mixed_limit.append((mixed.prompts + mixed.decoded) / bare_s)
    yield "mixed limit"
    rates.alone.append(one_by_one(subject, seed=number))
    yield "one by one"


@torch.inference_mode()
def bare_decode(subject: Subject, prompt: int, steps: int) -> float:
    """Tokens a second of `steps` decode forwards for 16 rows after a prompt of `prompt` tokens (prompt not timed)."""
    model, cache = subject.packed, DynamicCache()
    ids = torch.tensor([subject.prompt(max(1, prompt))] * ROWS)  # (16, prompt)
    last = model(input_ids=ids, past_key_values=cache, logits_to_keep=1).logits[:, -1:].argmax(-1)  # (16, 1)
    started = time.perf_counter()
    for _ in range(steps):
        last = model(input_ids=last, past_key_values=cache).logits[:, -1:].argmax(-1)
    return ROWS * steps / (time.perf_counter() - started)


@torch.inference_mode()
def bare_prefill(subject: Subject, seed: int) -> float:
    """Prompt tokens a second, each of the mix's prompts in one forward of its own."""
    source = jobs(subject.tokenizer, subject.plan.mix, seed)
    prompts = [subject.prompt(next(source).prompt_tokens) for _ in range(ROWS)]
    started = time.perf_counter()
    for prompt in prompts:
        subject.packed(input_ids=torch.tensor([prompt]), past_key_values=DynamicCache(), logits_to_keep=1)
    return sum(map(len, prompts)) / (time.perf_counter() - started)


async def steady_decode(subject: Subject) -> float:
    """Tokens a second of the engine, all 16 rows decoding."""
    async with _Running(subject.loaded) as running:
        prompts = [subject.prompt(subject.plan.prompt)] * ROWS
        submission = running.submit(prompts, subject.plan.steps)
        made = [0] * ROWS
        first: tuple[float, int] | None = None
        async for outputs in submission:
            for output in outputs:
                made[output.row] = running.tokens(output.chunk, made[output.row])
            now = time.perf_counter()
            if first is None and min(made) > 0:
                first = now, sum(made)
            if max(made) >= subject.plan.steps:
                assert first is not None, "rows ended before all had begun"
                submission.abort()
                return (sum(made) - first[1]) / (now - first[0])
    raise AssertionError("the engine ended without an answer")


@dataclass(frozen=True, slots=True)
class Mixed:
    """Tokens read and made inside a window."""

    prompts: int
    decoded: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return (self.prompts + self.decoded) / self.seconds


async def mixed_load(subject: Subject, seed: int) -> Mixed:
    """Keep 24 requests in the engine, 16 running and 8 waiting, and count what is done inside a window."""
    plan = subject.plan
    source = jobs(subject.tokenizer, plan.mix, seed)
    async with _Running(subject.loaded) as running:
        clients = [asyncio.create_task(running.serve(source)) for _ in range(ROWS + WAITING)]
        await asyncio.sleep(plan.mixed_warm_s)
        started, read, made = time.perf_counter(), running.read, running.made
        await asyncio.sleep(plan.mixed_window_s)
        seconds, read, made = time.perf_counter() - started, running.read - read, running.made - made
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    return Mixed(read, made, seconds)


def one_by_one(subject: Subject, seed: int) -> float:
    """Answer tokens a second of the unchanged model's own `generate`, one request after the other."""
    source = jobs(subject.tokenizer, subject.plan.mix, seed)
    made, started = 0, time.perf_counter()
    for _ in range(subject.plan.alone):
        job = next(source)
        ids = torch.tensor([subject.prompt(job.prompt_tokens)])
        out = subject.plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=job.output_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        made += out.shape[1] - ids.shape[1]
    return made / (time.perf_counter() - started)


class _Running:
    """The engine on its own thread, and counts of what its rows have read and made."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._task = loaded.tasks["completion"]
        self._engine = AsyncEngine(Engine({MODEL: loaded.sampler}, max_waiting_cost=float("inf")))
        self.read = self.made = 0

    async def __aenter__(self) -> _Running:
        await self._engine.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.drain(timeout_s=10)
        await self._engine.stop()

    def submit(self, prompts: list[list[int]], max_tokens: int) -> Any:
        request = CompletionRequest(
            model=MODEL, prompt=prompts, max_tokens=max_tokens, temperature=0.0, ignore_eos=True
        )
        return self._engine.submit(MODEL, self._task.prepare(request))

    def tokens(self, chunk: Any, before: int) -> int:
        """The row's running total after this chunk, encoded as it would be for the wire."""
        return before if chunk is None else self._task.encode(chunk).completion_tokens

    async def serve(self, source: Iterator[Job]) -> None:
        """A client that asks again and again. A prompt counts as read when the first token comes out."""
        while True:
            job = next(source)
            request = CompletionRequest(
                model=MODEL, prompt=job.prompt, max_tokens=job.output_tokens, temperature=0.0, ignore_eos=True
            )
            submission = self._engine.submit(MODEL, self._task.prepare(request))
            made = 0
            try:
                async for outputs in submission:
                    for output in outputs:
                        now = self.tokens(output.chunk, made)
                        self.read += job.prompt_tokens if made == 0 < now else 0
                        self.made += now - made
                        made = now
            finally:
                submission.abort()


def _hugging_face(folder: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    model.generation_config.eos_token_id = None
    return model
