"""`python -m loadtests.guesses`: what tokens guessed ahead bring (`guess_tokens`), by kind of work and number of rows.

SmolLM2-135M-Instruct in this process, on one thread, by two engines in turn: one guesses as models.yaml would have it,
one does not. Chats of their own come all at once, as many as there are rows, and each answer has as many tokens.

- *chat*: questions, the likeliest answer.
- *sampled*: the same at temperature 0.8.
- *copy*: a text to be said again with a word replaced, which repeats its prompt.

    python -m loadtests.guesses                          # 17 minutes; writes loadtests/reports/guesses.md
    python -m loadtests.guesses --rounds 1 --rows 1 4    # a look

An answer that differs from that without guesses is counted: it stands where two tokens are equally likely but for
rounding, as it does between batches of unlike sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from loadtests.bench_models import smollm2
from loadtests.prompts import QUESTIONS
from loadtests.report import machine
from loadtests.tables import Table, mid
from services.engine.async_engine import AsyncEngine
from services.engine.engine import Engine
from services.families import LoadedModel, family_loader
from shared.config.settings import Settings
from shared.config.transformer import TransformerModel
from shared.schemas.text import ChatRequest

MODEL = "smollm2"
REPORTS = Path(__file__).parent / "reports"
TOKENS = 96
TEXTS = (
    "The ferry leaves the old harbour at six, crosses the strait in two hours and returns at dusk with the mail.",
    "A baker in the lower town wakes at three, lights both ovens and has the first bread ready before the trams run.",
    "The museum keeps a clock that was built for a lighthouse; it strikes every quarter and has never been repaired.",
    "On the plateau the wind turns at noon, so the gliders start early and land before the clouds have grown tall.",
)
KINDS = ("chat", "sampled", "copy")


@dataclass(slots=True)
class Cell:
    """One kind of work at one number of rows; a value a round. `alike`: the part of answers that are the same."""

    plain: list[float] = field(default_factory=list)  # tokens a second
    guessed: list[float] = field(default_factory=list)
    tokens_a_step: list[float] = field(default_factory=list)  # of a row, guessed ones included
    alike: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> list[float]:
        return [guessed / plain for guessed, plain in zip(self.guessed, self.plain, strict=True)]


@dataclass(slots=True)
class Run:
    """What one engine made of some requests."""

    answers: list[str]
    tokens: int
    row_steps: int
    seconds: float


def requests(kind: str, rows: int, number: int) -> list[ChatRequest]:
    """Repeatable; those of other rounds are others."""
    sampling: dict[str, Any] = {"temperature": 0.8} if kind == "sampled" else {"temperature": 0.0}
    return [
        ChatRequest.model_validate(
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": _content(kind, number * rows + i)}],
                "max_tokens": TOKENS,
                "ignore_eos": True,
                "seed": i,
                **sampling,
            }
        )
        for i in range(rows)
    ]


def _content(kind: str, i: int) -> str:
    if kind != "copy":
        return f"{QUESTIONS[i % len(QUESTIONS)]} (Question {i}.)"
    texts = " ".join(TEXTS[(i + k) % len(TEXTS)] for k in range(3))
    return f'Repeat this text word for word, but write "a" in place of "the": {texts}'


async def run(loaded: LoadedModel, asked: Sequence[ChatRequest]) -> Run:
    """All at once, from the first to the end of the last, encoded as for the wire."""
    engine = AsyncEngine(Engine({MODEL: loaded.sampler}, max_waiting_cost=float("inf")))
    await engine.start()
    try:
        started = time.perf_counter()
        found = await asyncio.gather(*(_answer(engine, loaded, request) for request in asked))
        seconds = time.perf_counter() - started
    finally:
        await engine.drain(timeout_s=10)
        await engine.stop()
    return Run([text for text, _, _ in found], sum(n for _, n, _ in found), sum(n for _, _, n in found), seconds)


async def _answer(engine: AsyncEngine, loaded: LoadedModel, request: ChatRequest) -> tuple[str, int, int]:
    """Its text, its tokens, and in how many pieces it came."""
    task, pieces, made, steps = loaded.tasks["chat"], list[str](), 0, 0
    async for outputs in engine.submit(MODEL, list(task.prepare(request))):
        for output in outputs:
            if output.chunk is not None:
                delta = task.encode(output.chunk)
                steps += delta.completion_tokens > made
                made = delta.completion_tokens
                pieces.append(delta.text)
    return "".join(pieces), made, steps


def measure(rounds: int, widths: Sequence[int], cells: dict[tuple[str, int], Cell]) -> Iterator[str]:
    """Adds to `cells`; yields what has just been done."""
    torch.set_num_threads(1)
    folder = smollm2(Settings().home)
    plain, guessed = _load(folder, guess_tokens=0), _load(folder)
    for loaded in (plain, guessed):
        asyncio.run(run(loaded, requests("chat", 1, 0)))  # what is made on first use
    for number, rows, kind in product(range(1, rounds + 1), widths, KINDS):
        asked, cell = requests(kind, rows, number), cells.setdefault((kind, rows), Cell())
        first, second = (plain, guessed) if number % 2 else (guessed, plain)
        found = {id(first): asyncio.run(run(first, asked)), id(second): asyncio.run(run(second, asked))}
        without, with_them = found[id(plain)], found[id(guessed)]
        cell.plain.append(without.tokens / without.seconds)
        cell.guessed.append(with_them.tokens / with_them.seconds)
        cell.tokens_a_step.append(with_them.tokens / with_them.row_steps)
        same = sum(a == b for a, b in zip(without.answers, with_them.answers, strict=True))
        cell.alike.append(same / rows)
        yield f"round {number}, {kind}, {rows} rows: {cell.ratio[-1]:.2f}"


def _load(folder: Path, **options: Any) -> LoadedModel:
    config = TransformerModel(
        id=MODEL, source=f"file://{folder}", cache_memory=2**29, prefix_cache=False, license="unknown", **options
    )
    return family_loader("transformer")(config, folder)


def table(cells: dict[tuple[str, int], Cell]) -> Table:
    head = ("work", "rows", "tokens/s without", "with", "ratio", "tokens a row's step", "answers alike")
    rows = [
        (
            kind,
            str(width),
            mid(cell.plain),
            mid(cell.guessed),
            mid(cell.ratio, 2),
            mid(cell.tokens_a_step, 2),
            f"{median(cell.alike):.0%}",
        )
        for (kind, width), cell in sorted(cells.items(), key=lambda item: (KINDS.index(item[0][0]), item[0][1]))
    ]
    return Table("Tokens guessed ahead", head, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--out", type=Path, default=REPORTS, help="the folder of the report")
    arguments = parser.parse_args()
    cells: dict[tuple[str, int], Cell] = {}
    started = time.perf_counter()
    for done in measure(arguments.rounds, arguments.rows, cells):
        print(done, flush=True)
    found = table(cells)
    Console().print(found.rich)
    command = shlex.join(["python", "-m", "loadtests.guesses", *sys.argv[1:]])
    facts = machine()
    text = "\n".join(
        [
            "# Tokens guessed ahead",
            "",
            f"`{command}`: {(time.perf_counter() - started) / 60:.0f} minutes, SmolLM2-135M-Instruct in process, one "
            "thread; medians of rounds that alternate, and their ranges.",
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
            found.section,
        ]
    )
    (arguments.out / "guesses.md").write_text(text)
    figures = {f"{kind}, {rows} rows": asdict(cell) for (kind, rows), cell in cells.items()}
    (arguments.out / "guesses.json").write_text(json.dumps({"machine": facts, "cells": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
