"""Owns one process's part of a load: its requests in flight, its tally, and their end. Never sees Locust's runners."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust.log import greenlet_exception_logger

from loadtests.generator.exchange import Client
from loadtests.generator.loops import ClosedLoop, Loop, NoLoop, OpenLoop
from loadtests.generator.options import CLOSED, LoadOptions, api_key
from loadtests.generator.plan import Plan
from loadtests.generator.tally import Tally
from loadtests.outcomes import Outcome
from loadtests.traffic.arrivals import arrivals_of
from loadtests.traffic.lengths import LENGTHS, Draw
from loadtests.traffic.trace import Arrival
from loadtests.users.asks import Target, Wish
from loadtests.users.table import MODALITIES

Tell = Callable[[Outcome], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is asked for what."""

    modality: str
    target: Target


class Process:
    """From `begin` to `end`. Times are of `time.perf_counter`."""

    def __init__(
        self, *, host: str, options: LoadOptions, plan: Plan, tell: Tell, unsent: Callable[[str], None]
    ) -> None:
        """`tell` hears of every outcome, `unsent` of every request that is not sent, by its modality."""
        self.host, self.options, self.plan = host, options, plan
        self.is_over = False
        self._tell, self._unsent = tell, unsent
        self.tally = Tally()
        self._in_flight = Group()
        self._idle = Event()
        self._idle.set()
        self._running = 0
        self._ordinals = itertools.count()
        self._clients: list[Client] = []
        self._replaying: gevent.Greenlet | None = None
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    # When it is asked

    def begin(self) -> None:
        """Its clock has run since it was made. A trace is replayed by the process itself, whatever users there are."""
        if self.options.trace:
            rng = self._rng()
            self._replaying = gevent.spawn(self._replay, OpenLoop(self, self._client(), rng, iter(self.plan.trace)))
            self._replaying.link_exception(greenlet_exception_logger(logger))

    def loop(self, asks_for: str) -> Loop:
        """The next user's. `asks_for`: a modality, or empty for a mix."""
        if self.options.trace:
            return NoLoop()
        rng, client = self._rng(), self._client()
        if self.options.arrivals == CLOSED:
            return ClosedLoop(self, client, rng, asks_for=asks_for)
        draw = arrivals_of(self.options.arrivals, burst_size=self.options.burst_size, day_s=self.options.day)
        arrivals = map(Arrival, draw(_own(rng), self.options.per_user, self.now()))
        return OpenLoop(self, client, rng, arrivals, asks_for=asks_for)

    def _replay(self, loop: Loop) -> None:
        while not self.is_over:
            loop.ask()
            gevent.sleep(loop.wait_s())

    def _rng(self) -> Random:
        """The same seed, share and order of users give the same draws."""
        number, seed = next(self._ordinals), self.options.seed
        return Random() if seed is None else Random(f"{seed}/{self.plan.share}/{number}")

    def _client(self) -> Client:
        options = self.options
        client = Client(self.host, connections=options.max_in_flight, key=api_key(), deadline_s=options.deadline)
        self._clients.append(client)
        return client

    def now(self) -> float:
        """Seconds since the test began here."""
        return time.perf_counter() - self._began

    # Requests

    def launch(self, client: Client, rng: Random, arrival: Arrival, *, asks_for: str) -> None:
        """Send what is due in a greenlet of its own, whatever is in flight, up to the bound."""
        choice, own = self._chosen(rng, arrival, asks_for), _own(rng)
        if self._running >= self.options.max_in_flight:
            self.tally.unsent(choice.modality, choice.target.model)
            self._unsent(choice.modality)
            return
        self._take()
        greenlet = self._in_flight.spawn(self._ask_and_free, client, own, choice, arrival)
        greenlet.link_exception(greenlet_exception_logger(logger))  # Locust's exit code tells of it

    def ask(self, client: Client, rng: Random, *, asks_for: str) -> None:
        """Send one request now and read its answer."""
        arrival = Arrival(self.now())
        choice, own = self._chosen(rng, arrival, asks_for), _own(rng)
        self._take()
        self._ask_and_free(client, own, choice, arrival)

    def _take(self) -> None:
        self._running += 1
        self._idle.clear()

    def _ask_and_free(self, client: Client, rng: Random, choice: Choice, arrival: Arrival) -> None:
        try:
            self._ask(client, rng, choice, arrival)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def _ask(self, client: Client, rng: Random, choice: Choice, arrival: Arrival) -> None:
        modality = MODALITIES[choice.modality]
        ask = modality.draw(self._wish(rng, choice, arrival))
        body = ask.body
        self.tally.sent(choice.modality, choice.target.model)
        started = time.perf_counter()
        reply = client.post(modality.path, body, ask.reader)
        ended = time.perf_counter()
        pace = ask.reader.pace
        outcome = Outcome(
            modality=choice.modality,
            model=choice.target.model,
            reply=reply,
            due=self._began + arrival.at,
            started=started,
            ended=ended,
            first=pace.first,
            gaps=tuple(pace.gaps),
            units=ask.reader.units,
            size=ask.reader.size,
        )
        self.tally.ended(outcome, good=self.plan.objectives.is_good(outcome))
        self._tell(outcome)

    def _chosen(self, rng: Random, arrival: Arrival, asks_for: str) -> Choice:
        """What the arrival names, else a draw of what the user asks for."""
        weights = {asks_for: 1.0} if asks_for else self.plan.weights
        if arrival.modality:
            weights = {arrival.modality: 1.0}
        able = {
            task: [each for each in self.plan.targets[task] if arrival.model in ("", each.model)] for task in weights
        }
        tasks = [task for task, targets in able.items() if targets]
        (task,) = rng.choices(tasks, [weights[task] for task in tasks]) if len(tasks) > 1 else tasks
        return Choice(task, able[task][0] if len(able[task]) == 1 else rng.choice(able[task]))

    def _wish(self, rng: Random, choice: Choice, arrival: Arrival) -> Wish:
        drawn = LENGTHS[self.options.lengths].draw(
            rng, context=choice.target.context, max_answer=self.options.max_tokens
        )
        lengths = Draw(arrival.prompt_tokens or drawn.prompt, arrival.output_tokens or drawn.answer)
        return Wish(choice.target, rng, lengths, self.plan.inputs, self.options.ignore_eos)

    # The end

    def drain(self, within_s: float) -> int:
        """Send nothing more, and wait for what is in flight; how much of it was not done in time."""
        self.is_over = True
        self._idle.wait(within_s)
        return self._running

    def end(self) -> None:
        """Give up what is still in flight: it stays in `sent` alone."""
        self.is_over = True
        self._in_flight.kill(block=False)
        for client in self._clients:
            client.close()
        if self._replaying is not None:
            self._replaying.kill(block=False)

    def take(self) -> dict[str, Any]:
        """What has happened since the last time, for the sum of all processes."""
        taken, self.tally = self.tally, Tally()
        wall_s = max(1e-3, time.perf_counter() - self._began)
        return {**taken.dump(), "cpu_share": (time.process_time() - self._cpu_began) / wall_s}


def _own(rng: Random) -> Random:
    """A stream of draws of its own, so that when others draw changes nothing."""
    return Random(rng.getrandbits(64))
