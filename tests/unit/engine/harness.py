"""What the engine's tests share: a clock that only tests move, and an engine around fake samplers that keeps all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from services.engine.contract import FinishReason, Preview
from services.engine.engine import Engine
from services.engine.rows import Output
from tests.contract.fake import FakeParams, FakeSampler

RowKey = tuple[int, int]


class FakeClock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Recorder:
    """Keeps every output by (request, row), and refuses any that comes after a row's final one."""

    def __init__(self) -> None:
        self.outputs: dict[RowKey, list[Output]] = defaultdict(list)
        self.finals: dict[RowKey, Output] = {}

    def take(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            key = (output.request, output.row)
            assert key not in self.finals, f"{output} comes after the row's end"
            self.outputs[key].append(output)
            if output.finish_reason is not None:
                self.finals[key] = output
            assert (output.error is not None) == (output.finish_reason is FinishReason.ERROR)

    def chunks(self, request: int, row: int = 0) -> list[Any]:
        """What the row streamed, previews left out."""
        given = [output.chunk for output in self.outputs[request, row] if output.chunk is not None]
        return [chunk for chunk in given if not isinstance(chunk, Preview)]

    def reason(self, request: int, row: int = 0) -> FinishReason | None:
        final = self.finals.get((request, row))
        return None if final is None else final.finish_reason


class Harness(Recorder):
    """An engine stepped by hand."""

    def __init__(
        self,
        samplers: Mapping[str, FakeSampler] | FakeSampler | None = None,
        *,
        max_waiting_cost: float = 1e9,
    ) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.samplers = samplers if isinstance(samplers, Mapping) else {"m": samplers or FakeSampler()}
        self.engine = Engine(self.samplers, clock=self.clock, max_waiting_cost=max_waiting_cost)

    @property
    def sampler(self) -> FakeSampler:
        return self.samplers["m"]

    def submit(self, *rows: FakeParams, model: str = "m", **options: Any) -> int:
        return self.engine.submit(model, rows, **options)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.take(self.engine.step())

    def finish(self, limit: int = 10_000) -> None:
        for _ in range(limit):
            if not self.engine.has_work:
                return
            self.step()
        raise AssertionError("rows never end")

    def check_nothing_is_left(self) -> None:
        assert not self.engine.has_work
        assert self.engine.accounts == 0
        assert self.engine.backlog.total == 0
        for sampler in self.samplers.values():
            assert sampler.live == []
            assert sampler.released == sampler.started
        for stats in self.engine.stats().values():
            assert (stats.waiting_rows, stats.waiting_cost, stats.running_rows) == (0, 0, 0)


def solo(params: FakeParams) -> list[int]:
    """What the row streams when nothing else runs."""
    harness = Harness()
    request = harness.submit(params)
    harness.finish()
    return harness.chunks(request)
