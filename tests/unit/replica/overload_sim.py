"""A replica under open-loop load on a clock of its own: the real engine, order and admission around a fake sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from services.admission import Admission
from services.engine.contract import FinishReason, StepOutput
from services.engine.engine import Engine
from shared.calls import Call, Priority
from shared.errors import Overloaded
from shared.schemas.text import DetokenizeRequest
from tests.contract.fake import Chunk, FakeParams, FakeSampler, FakeState
from tests.unit.replica.fakes import Clock

STEP_S = 0.05
ROWS = 4
STEPS = (10, 30)  # of a row: its cost, and its work
CALL = Call("req", "m", "generate", DetokenizeRequest(model="m", tokens=[1]))
CAPACITY = ROWS / STEP_S / (sum(STEPS) / 2)  # requests a second


class TakesTime(FakeSampler):
    """Every step takes `STEP_S`, however full the batch is."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(max_batch_size=ROWS)
        self._clock = clock

    def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        self._clock.now += STEP_S
        self.batches.clear()
        return super().step(states)


@dataclass(slots=True)
class Stream:
    """Requests of one tenant, so many a second, each with this deadline. `factor` times the work is their cost."""

    per_second: float
    tenant: str = "a"
    priority: Priority = Priority.DEFAULT
    deadline_s: float = 8.0
    factor: float = 1.0
    sent: int = 0
    refused: int = 0
    retry_after: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of the answers in time
    late: int = 0

    @property
    def call(self) -> Call:
        return replace(CALL, tenant=self.tenant, priority=self.priority, deadline_s=self.deadline_s)


class Simulation:
    def __init__(self, *, max_wait_s: float = 60.0, is_checked: bool = True) -> None:
        self.clock = Clock()
        self.engine = Engine({"m": TakesTime(self.clock)}, clock=self.clock, max_waiting_cost=1e9)
        self.admission = Admission(self.engine)
        self._max_wait_s = max_wait_s if is_checked else float("inf")
        self._is_checked = is_checked
        self._rng = Random(0)
        self._live: dict[int, tuple[Stream, float]] = {}

    def run(self, seconds: float, *streams: Stream) -> None:
        """Send for so long, then answer what is left. Everything sent is answered, refused or late: nothing is lost."""
        started, end = self.clock.now, self.clock.now + seconds
        while self.clock.now < end:
            passed = self.clock.now - started
            for stream in streams:
                while stream.sent < stream.per_second * passed:
                    self._send(stream)
            if self.engine.has_work:
                self._step()
            else:
                self.clock.now += STEP_S
        while self.engine.has_work:
            self._step()
        for stream in streams:
            assert len(stream.seconds) + stream.late + stream.refused == stream.sent

    def _send(self, stream: Stream) -> None:
        stream.sent += 1
        steps = self._rng.randint(*STEPS)
        params = FakeParams(seed=stream.sent, steps=steps, cost=steps * stream.factor)
        left_s = stream.deadline_s if self._is_checked else None
        try:
            self.admission.check(stream.call, [params], left_s=left_s, max_wait_s=self._max_wait_s)
        except Overloaded as refusal:
            stream.refused += 1
            stream.retry_after.append(refusal.retry_after or 0.0)
            return
        request = self.engine.submit(
            "m",
            [params],
            tenant=stream.tenant,
            priority=int(stream.priority),
            deadline=self.clock.now + stream.deadline_s,
        )
        self._live[request] = (stream, self.clock.now)

    def _step(self) -> None:
        for output in self.engine.step():
            if output.finish_reason is None:
                continue
            stream, sent_at = self._live.pop(output.request)
            if output.finish_reason is FinishReason.DEADLINE:
                stream.late += 1
            else:
                stream.seconds.append(self.clock.now - sent_at)
