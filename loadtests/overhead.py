"""`python -m loadtests.overhead`: what gateway and hop add to a request, beside the bare servers of other frameworks.

Nothing is computed, so that the way there and back is all that is measured. Castalia is a fleet of its own with a model
that costs nothing (`peers/instant.py`): HAProxy, gateway, replica, engine. What the same request takes in this process
through the same engine is measured as well; what the fleet adds is the difference. LitServe, BentoML and FastAPI answer
at once without an engine: all that they take is added. Each is asked in a closed loop for one small JSON object, and
for a stream of 16 events; a request has a connection of its own. CPU time is of all of a server's processes.

A fleet sends the first event of a stream at once, and gathers the next for 40 ms (`CASTALIA_FLUSH_MS`): a stream that
is made in an instant ends that much later, one that is made over seconds does not. Its first event is what to compare.

    python -m loadtests.peers.setup litserve bentoml fastapi     # once
    python -m loadtests.overhead                                 # 6 minutes; writes loadtests/reports/overhead.md
    python -m loadtests.overhead --quick --only fastapi          # a look, beside one of them: 1 minute
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from loadtests.client import Answer, Window, closed_loop, nearest_rank
from loadtests.overhead_report import IN_PROCESS, Cell, Kind, Overheads, write
from loadtests.peers.echo_servers import ECHO_SERVERS, LETTERS, ROWS, EchoServer
from loadtests.peers.instant import instant_options
from loadtests.peers.venvs import PeerMissing
from services.engine.async_engine import AsyncEngine
from services.engine.engine import Engine
from services.families.plugin.family import load
from services.logs import configure
from shared.config.plugin import PluginModel
from shared.schemas.audio import SpeechRequest
from shared.schemas.embeddings import EmbeddingRequest

REPORTS = Path(__file__).parent / "reports"
KINDS: tuple[Kind, ...] = ("whole", "stream")
MODEL = "instant"
WARM_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    clients: tuple[int, ...]
    rounds: int
    window_s: float


class InProcess:
    """The engine and the same model, asked from this process: no HTTP, no hop."""

    name = IN_PROCESS

    def __init__(self, work: Path) -> None:
        folder = work / "in-process"
        config = PluginModel.model_validate({"id": MODEL, "license": "unknown", **instant_options(folder, ROWS)})
        self._loaded = load(config, folder)
        self._engine: AsyncEngine | None = None

    def start(self) -> None:
        """An engine belongs to an event loop: `session` starts it."""

    def stop(self) -> None:
        """The same."""

    def cpu_seconds(self) -> Mapping[str, float]:
        return {"process": time.process_time()}

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[None]:
        self._engine = AsyncEngine(Engine({MODEL: self._loaded.sampler}, max_waiting_cost=float("inf")))
        await self._engine.start()
        try:
            yield
        finally:
            await self._engine.drain(timeout_s=10)
            await self._engine.stop()

    async def answer(self) -> Answer:
        return await self._ask("embedding", EmbeddingRequest(model=MODEL, input="a"))

    async def stream(self) -> Answer:
        return await self._ask("speech", SpeechRequest(model=MODEL, input=LETTERS, voice="any", response_format="pcm"))

    async def _ask(self, name: str, request: Any) -> Answer:
        assert self._engine is not None, "outside of its session"
        task, started, first = self._loaded.tasks[name], time.perf_counter(), None
        submission = self._engine.submit(MODEL, task.prepare(request))
        try:
            async for outputs in submission:
                for output in outputs:
                    task.encode(output.chunk)
                first = first or time.perf_counter()
        finally:
            submission.abort()
        assert first is not None, "an answer without output"
        return Answer(started, first, time.perf_counter(), 1)


def measure(plan: Plan, makers: Sequence[Callable[[Path], EchoServer]], results: Overheads) -> None:
    """Start every server, load them in turn, and stop them; says what it does. Raises PeerMissing before any starts."""
    with tempfile.TemporaryDirectory(prefix="overhead-", dir="/tmp", ignore_cleanup_errors=True) as work:
        servers = [make(Path(work)) for make in (InProcess, *makers)]
        try:
            for server in servers:
                print(f"starting {server.name} ...", flush=True)
                server.start()
            for number in range(plan.rounds):
                for kind in KINDS:
                    for clients in plan.clients:
                        for server in servers:
                            said = asyncio.run(_load(server, kind, clients, plan, results))
                            print(f"round {number + 1} of {plan.rounds}, {kind}, {clients} clients: {said}", flush=True)
        finally:
            for server in servers:
                server.stop()


async def _load(server: EchoServer, kind: Kind, clients: int, plan: Plan, results: Overheads) -> str:
    """One window of load; adds to the results, and gives a line that tells of it."""
    ask = server.answer if kind == "whole" else server.stream
    edges: list[dict[str, float]] = []
    async with server.session():
        window = await closed_loop(
            lambda _: ask(),
            repeat(None),
            clients=clients,
            warm_s=WARM_S,
            window_s=plan.window_s,
            at_edge=lambda: edges.append(dict(server.cpu_seconds())),
        )
    before, after = edges
    spent = {part: seconds - before.get(part, 0.0) for part, seconds in after.items()}
    add(results, Cell(kind, clients, server.name), window, spent)
    found = results.cells[Cell(kind, clients, server.name)]
    return f"{server.name}, p50 {1e3 * found.end_p50[-1]:.1f} ms, p99 {1e3 * found.end_p99[-1]:.1f} ms"


def add(results: Overheads, cell: Cell, window: Window, spent: Mapping[str, float]) -> None:
    """Add a round. `spent` is CPU seconds by role; quantiles are of the answers that began inside the window."""
    figures = results.at(cell)
    began = [answer for answer in window.answers if answer.started >= window.started]
    first = [answer.first_text - answer.started for answer in began]
    ends = [answer.ended - answer.started for answer in began]
    figures.first_p50.append(nearest_rank(first, 0.5))
    figures.first_p99.append(nearest_rank(first, 0.99))
    figures.end_p50.append(nearest_rank(ends, 0.5))
    figures.end_p99.append(nearest_rank(ends, 0.99))
    figures.per_second.append(window.tokens_per_second)  # an answer counts as one token
    figures.client_cpu_share.append(window.client_cpu_share)
    for role, seconds in spent.items():
        figures.cpu_us.setdefault(role, []).append(1e6 * seconds / window.tokens)


def main() -> int:
    makers = {make.name.lower(): make for make in ECHO_SERVERS}
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.overhead", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 64], help="how many ask at once (1 64)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each is measured (4)")
    parser.add_argument("--quick", action="store_true", help="one round of 2 seconds each")
    parser.add_argument("--only", choices=makers, nargs="+", default=list(makers), help="servers to measure (all)")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for overhead.md and overhead.json")
    arguments = parser.parse_args()
    if min(arguments.clients) < 1 or arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--clients and --rounds are 1 or more, --seconds more than 0")
    configure("ERROR")
    rounds, seconds = (1, 2.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    results = Overheads(options=" ".join(sys.argv[1:]), load_before=os.getloadavg()[0])
    began = time.perf_counter()
    try:
        measure(Plan(tuple(arguments.clients), rounds, seconds), [makers[name] for name in arguments.only], results)
    except PeerMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    results.seconds = time.perf_counter() - began
    assert __doc__ is not None, "python -OO"
    print(f"written: {write(results, arguments.out, __doc__.partition('    python -m')[0])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
