"""Owns the figures of a recurrent net's batching: completions in one batch, one after another, and in plain loops.

Everything runs in this process on one torch thread, fp32, sampled at temperature 0.7, with a net of verse-lstm's shape:
its weights are random, for what they say takes no other time.

- *together*: all requests at once through the engine, up to ROWS in a batch, of unlike prompts and lengths.
- *one after another*: the same requests through the same engine, each after the end of the one before.
- *plain loop*: the same work, request by request, as PyTorch's documentation would do it: `torch.nn.LSTM` on the
  prompt, then on one character after another, with a softmax and `torch.multinomial`; the text is joined at the end.
- *plain batch*: that loop over a full batch of ROWS rows of equal lengths; what a batch could bring without requests
  of their own lengths, seeds, stops and streams.

Tokens are those of the answers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from loadtests.prompts import QUESTIONS
from services.engine.async_engine import AsyncEngine
from services.engine.engine import Engine
from services.families import LoadedModel, family_loader
from services.families.recurrent.language import TOKENIZER, load_net
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.text.recipes import VerseLstm
from services.families.recurrent.text.tokens import byte_tokenizer
from services.nn.weights import save_model
from shared.config.recurrent import RecurrentTextModel
from shared.schemas.text import CompletionRequest

MODEL = "verse-lstm"
ROWS = 32
PROMPT, OUTPUT = (8, 64), (64, 256)  # tokens of a request, both ends included
TEMPERATURE = 0.7
STEPS_BEHIND = 128  # of the plain batch


@dataclass(frozen=True, slots=True)
class Job:
    """One completion: a prompt, how many tokens follow, and from which seed."""

    prompt: str
    tokens: int
    seed: int


@dataclass(slots=True)
class RecurrentFigures:
    """Tokens a second, one figure a round."""

    together: list[float] = field(default_factory=list)
    one_by_one: list[float] = field(default_factory=list)
    plain_loop: list[float] = field(default_factory=list)
    plain_batch: list[float] = field(default_factory=list)


def recurrent_jobs(count: int, seed: int) -> list[Job]:
    """Repeatable requests of unlike prompts and lengths; a character is a token."""
    rng, text = random.Random(seed), " ".join(QUESTIONS)
    found: list[Job] = []
    for _ in range(count):
        start = rng.randrange(len(text) - PROMPT[1])
        prompt = text[start : start + rng.randint(*PROMPT)]
        found.append(Job(prompt, rng.randint(*OUTPUT), rng.randrange(2**31)))
    return found


def write_checkpoint(folder: Path) -> None:
    """A net of verse-lstm's shape, the same at every call."""
    torch.manual_seed(0)
    config = VerseLstm.config
    save_model(RecurrentLM(config), config, folder)
    byte_tokenizer().save(str(folder / TOKENIZER))


def measure_recurrent(folder: Path, rounds: int, requests: int, figures: RecurrentFigures) -> Iterator[str]:
    """Run every measurement `rounds` times in turn, adding to `figures`; yields what has just been done."""
    torch.set_num_threads(1)
    config = RecurrentTextModel(id=MODEL, source=f"file://{folder}", kind="text", max_batch_size=ROWS)
    loaded, net = family_loader("recurrent")(config, folder), load_net(folder)
    asyncio.run(run_jobs(loaded, recurrent_jobs(2, seed=0), together=True))  # what is made on first use
    for number in range(rounds):
        jobs = recurrent_jobs(requests, seed=number)
        figures.together.append(asyncio.run(run_jobs(loaded, jobs, together=True)))
        yield "together"
        figures.one_by_one.append(asyncio.run(run_jobs(loaded, jobs, together=False)))
        yield "one after another"
        figures.plain_loop.append(plain_loop(net, _ids(loaded, jobs), [job.tokens for job in jobs]))
        yield "plain loop"
        figures.plain_batch.append(plain_batch(net, STEPS_BEHIND))
        yield "plain batch"


async def run_jobs(loaded: LoadedModel, jobs: Sequence[Job], *, together: bool) -> float:
    """Tokens a second of the engine, from the first request to the end of the last, encoded as for the wire."""
    engine = AsyncEngine(Engine({MODEL: loaded.sampler}, max_waiting_cost=float("inf")))
    await engine.start()
    try:
        started = time.perf_counter()
        if together:
            made = sum(await asyncio.gather(*(_complete(engine, loaded, job) for job in jobs)))
        else:
            made = sum([await _complete(engine, loaded, job) for job in jobs])
        return made / (time.perf_counter() - started)
    finally:
        await engine.drain(timeout_s=10)
        await engine.stop()


async def _complete(engine: AsyncEngine, loaded: LoadedModel, job: Job) -> int:
    """How many tokens the answer has."""
    task = loaded.tasks["completion"]
    request = CompletionRequest(
        model=MODEL, prompt=job.prompt, max_tokens=job.tokens, temperature=TEMPERATURE, seed=job.seed, ignore_eos=True
    )
    made = 0
    async for outputs in engine.submit(MODEL, list(task.prepare(request))):
        for output in outputs:
            if output.chunk is not None:
                made = task.encode(output.chunk).completion_tokens
    if made != job.tokens:
        raise RuntimeError(f"an answer has {made} tokens instead of {job.tokens}")
    return made


@torch.inference_mode()
def plain_loop(net: RecurrentLM, prompts: Sequence[Sequence[int]], counts: Sequence[int]) -> float:
    """Tokens a second, one request after another."""
    started = time.perf_counter()
    for prompt, count in zip(prompts, counts, strict=True):
        _plain(net, torch.tensor([prompt]), count)
    return sum(counts) / (time.perf_counter() - started)


@torch.inference_mode()
def plain_batch(net: RecurrentLM, steps: int) -> float:
    """Tokens a second of ROWS rows in step."""
    ids = torch.full((ROWS, 1), net.config.bos or 0)
    started = time.perf_counter()
    _plain(net, ids, steps)
    return ROWS * steps / (time.perf_counter() - started)


def _plain(net: RecurrentLM, ids: Tensor, count: int) -> list[list[int]]:
    """ids (B, T) -> what was drawn after them, `count` each."""
    drawn: list[Tensor] = []
    logits, state = net(ids)
    for _ in range(count):
        ids = torch.multinomial((logits[:, -1] / TEMPERATURE).softmax(-1), 1)
        drawn.append(ids)
        logits, state = net(ids, state)
    return torch.cat(drawn, dim=1).tolist()


def _ids(loaded: LoadedModel, jobs: Sequence[Job]) -> list[Sequence[int]]:
    task = loaded.tasks["completion"]
    return [task.prepare(CompletionRequest(model=MODEL, prompt=job.prompt))[0].prompt for job in jobs]
