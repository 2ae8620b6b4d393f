"""`python -m loadtests.cold`: from zero to a first token, of SmolLM2-135M-Instruct, beside plain Ray Serve.

A fleet of its own with two services, and Ray Serve without Castalia (`peers/cold_app.py`) with the same checkpoint,
each with a Ray of its own, one thread a replica. Time is from sending a request over HTTP to its first text:

- replica cold: no replica runs. The autoscaler decides, a process starts, imports, loads the model, answers.
- replica warm, model cold: a replica runs that has room for one of its two models, and the other one is asked for.
- replica and model warm: the same request again. What is left then is no cold start.

They follow each other in rounds, servers in turn; before each cold request its server is at rest. Both rest after 3
seconds without a request and look as often whether to, so that a round is short; the delay is in no figure. Files are
in the page cache: a first round is not counted. Castalia checks all weights by SHA-256 at each load, the peer does not.
Phases are read from Ray Serve's log and the replicas', and add up to the time of their round.

    python -m loadtests.cold                # 5 rounds, some 5 minutes; writes loadtests/reports/cold.md
    python -m loadtests.cold --quick        # one round, some 2 minutes
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtests.bench_models import smollm2
from loadtests.client import Answer
from loadtests.cold_phases import FIRST_TOKEN, MODEL_COLD, PROCESS, REPLICA_COLD, marks_of, phases_of, ray_lines
from loadtests.cold_report import COLD, RELOAD, WARM, Results, tables, write
from loadtests.peers.cold_servers import POLL_S, RIVALS, ColdFleet, ColdServer, PlainServe, started_at
from loadtests.peers.server import NotReady
from loadtests.workload import Job
from services.logs import configure
from shared.config.settings import Settings

REPORTS = Path(__file__).parent / "reports"
JOB = Job("The capital of France is", prompt_tokens=5, output_tokens=8)
REST_S = 120.0  # the longest that a server may take to rest
SETTLE_S = 3.0  # after its last process has gone: Ray Serve writes that down, and the gateway learns of it
ANSWER_S = 120.0


class NoRest(Exception):
    """A server's replica stayed."""


def measure(rounds: int, folder: Path, work: Path, results: Results) -> Iterator[str]:
    """Start both servers, wake them in turn, and stop them; yields what was just done: `steps` of them.

    A peer that does not start is left out, and named in the results.
    """
    fleet, plain = ColdFleet(folder, work), PlainServe(folder, work)
    servers: list[ColdServer] = [fleet]
    try:
        fleet.start()
        yield f"start {fleet.name}"
        try:
            plain.start()
            servers.append(plain)
            yield f"start {plain.name}"
        except NotReady as missing:
            results.missing[plain.name] = str(missing)
            yield f"{plain.name} is missing: {missing}"
        for number in range(rounds + 1):
            counted = results if number else Results()
            for server in servers:
                _wait_for_rest(server)
                _wake(server, counted)
                yield f"round {number} of {rounds}, {COLD}: {server.name}"
            _reload(fleet, RIVALS[(number + 1) % 2], counted)
            yield f"round {number} of {rounds}, {RELOAD}: {fleet.name}"
    finally:
        plain.stop()
        fleet.stop()


def steps(rounds: int) -> int:
    return 2 + 3 * (rounds + 1)


def _wait_for_rest(server: ColdServer) -> None:
    limit = time.monotonic() + REST_S
    while server.replicas():
        if time.monotonic() > limit:
            raise NoRest(f"{server.name} has a replica after {REST_S:g} s without a request")
        time.sleep(POLL_S)
    time.sleep(SETTLE_S)


def _wake(server: ColdServer, results: Results) -> None:
    """One cold start, and the same request again."""
    began, answer = _timed(server.ask(JOB))
    process = {PROCESS: min(map(started_at, server.replicas()))}
    results.at(COLD, server.name).take(*_phased(server, REPLICA_COLD, began, answer, process))
    _, again = _timed(server.ask(JOB))
    results.at(WARM, server.name).take(_first_token_s(again), {})


def _reload(fleet: ColdFleet, model: str, results: Results) -> None:
    """One load in a replica that runs; `model` is the one that is not loaded."""
    began, answer = _timed(fleet.ask_model(model, JOB))
    results.at(RELOAD, fleet.name).take(*_phased(fleet, MODEL_COLD, began, answer, {}))


def _phased(
    server: ColdServer, order: Mapping[str, str], began: float, answer: Answer, more: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """Seconds to the first token, and of each phase up to it. Raises NotCold."""
    first_s = _first_token_s(answer)
    marks = marks_of(ray_lines(server.ray_logs), began=began, ended=began + first_s)
    return first_s, phases_of(list(order), {**marks, **more, FIRST_TOKEN: began + first_s}, began=began)


def _timed(asking: Awaitable[Answer]) -> tuple[float, Answer]:
    """When the request was sent, in seconds since the epoch, and its answer."""

    async def ask() -> tuple[float, Answer]:
        async with asyncio.timeout(ANSWER_S):
            return time.time(), await asking

    return asyncio.run(ask())


def _first_token_s(answer: Answer) -> float:
    return answer.first_text - answer.started


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.cold", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for cold.md and cold.json")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds is 1 or more")
    configure("ERROR")
    rounds = 1 if arguments.quick else arguments.rounds
    console = Console(width=None if sys.stdout.isatty() else 140)
    results = Results(options=" ".join(sys.argv[1:]), load_before=os.getloadavg()[0])
    began = time.perf_counter()
    columns = SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with (
        Progress(*columns, console=console) as progress,
        tempfile.TemporaryDirectory(prefix="cold-", dir="/tmp", ignore_cleanup_errors=True) as work,
    ):
        bar = progress.add_task("starting", total=steps(rounds))
        for done in measure(rounds, smollm2(Settings().home), Path(work), results):
            progress.update(bar, advance=1, description=done)
    results.seconds = time.perf_counter() - began
    for table in tables(results):
        console.print(table.rich)
    for name, why in results.missing.items():
        console.print(f"missing: {name}. {why}")
    assert __doc__ is not None, "python -OO"
    console.print(f"written: {write(results, arguments.out, __doc__.partition('    python -m')[0])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
