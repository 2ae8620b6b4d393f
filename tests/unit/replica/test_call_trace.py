"""What a replica tells of a call as spans: the phases of its rows, by the engine's own times."""

from __future__ import annotations

import time
from contextlib import aclosing

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from services.call_trace import MOST_ROWS
from services.engine.contract import FinishReason
from shared.events import Finished, ImageDelta, TextDelta
from tests.contract.fake import FakeParams, FakeSampler
from tests.traces import Traced, id_of, parent_of, seconds
from tests.unit.engine.harness import Harness
from tests.unit.replica.driver import ENDLESS, call, events, failure, running
from tests.unit.replica.fakes import FakeTask, loaded, until

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"


@pytest.fixture
def traced() -> Traced:
    return Traced()


def follows(one: ReadableSpan, other: ReadableSpan) -> bool:
    """At once: two readings of a clock apart."""
    assert one.end_time is not None
    assert other.start_time is not None
    return abs(one.end_time - other.start_time) < 1_000_000


async def test_a_row_of_text_is_queued_prefilled_stepped_and_encoded(traced: Traced) -> None:
    async with running(loaded(), tracer=traced.tracer) as host:
        await events(host, call(4, traceparent=SAMPLED))
    names = ["encode", "generate a", "prefill", "prepare", "queue", "steps"]
    assert sorted(span.name for span in traced.spans) == names
    whole = traced.named("generate a")
    assert f"{whole.context.trace_id:032x}" == SAMPLED.split("-")[1]
    assert parent_of(whole) == SAMPLED.split("-")[2]
    parts = {span.name: span for span in traced.spans if span is not whole}
    assert {parent_of(span) for span in parts.values()} == {id_of(whole)}
    assert follows(parts["queue"], parts["prefill"])
    assert follows(parts["prefill"], parts["steps"])
    assert parts["steps"].attributes == {"castalia.row": 0, "castalia.finish_reason": "length", "castalia.steps": 4}
    assert dict(parts["encode"].attributes or {})["castalia.encode.pieces"] == 4
    assert whole.attributes == {
        "gen_ai.operation.name": "generate",
        "gen_ai.provider.name": "castalia",
        "gen_ai.request.model": "a",
        "gen_ai.response.finish_reasons": ("length",),
        "castalia.rows": 1,
    }
    assert whole.start_time is not None
    assert abs(whole.start_time / 1e9 - time.time()) < 60, "by the clock of the day"
    within = [span for span in parts.values() if span.start_time and span.end_time]
    assert all(whole.start_time <= span.start_time + 1e6 for span in within)


async def test_what_is_not_text_has_no_prefill(traced: Traced) -> None:
    class Painter(FakeTask):
        def encode(self, chunk: int) -> ImageDelta:  # type: ignore[override]
            return ImageDelta(b"", "", "png", 1, 1, 0, 1, 1, False, 0)

    model = loaded()
    model.tasks["generate"] = Painter()  # type: ignore[index]
    async with running(model, tracer=traced.tracer) as host:
        await events(host, call(2, traceparent=SAMPLED))
    assert {span.name for span in traced.spans} == {"generate a", "prepare", "queue", "steps", "encode"}
    assert follows(traced.named("queue"), traced.named("steps"))


async def test_of_many_rows_some_have_spans(traced: Traced) -> None:
    async with running(loaded(), tracer=traced.tracer) as host:
        await events(host, call(*[1] * (MOST_ROWS + 5), traceparent=SAMPLED))
    assert sum(span.name == "steps" for span in traced.spans) == MOST_ROWS
    assert dict(traced.named("generate a").attributes or {})["castalia.rows"] == MOST_ROWS + 5


async def test_a_row_that_never_ran_was_in_the_queue_until_its_deadline(traced: Traced) -> None:
    sampler = FakeSampler(max_batch_size=1)
    async with running(loaded(sampler=sampler), tracer=traced.tracer) as host:
        async with aclosing(host.stream(call(ENDLESS, flush_s=0.0, traceparent=UNSAMPLED))) as first:
            await anext(first)
            await until(lambda: sampler.live)
            failed = (await events(host, call(1, deadline_s=0.05, traceparent=SAMPLED)))[-1]
        assert failed.status == 504  # type: ignore[union-attr]
    assert {span.name for span in traced.spans} == {"generate a", "prepare", "queue"}
    assert dict(traced.named("queue").attributes or {})["castalia.finish_reason"] == "deadline"
    assert seconds(traced.named("queue")) > 0.01


async def test_a_refused_call_is_told_by_its_code_and_never_by_its_message(traced: Traced) -> None:
    async with running(loaded(), tracer=traced.tracer) as host:
        await failure(host, call(traceparent=SAMPLED))
        await failure(host, call(666, traceparent=SAMPLED))
    refused, broken = (span for span in traced.spans if span.name == "generate a")
    assert dict(refused.attributes or {})["error.type"] == "invalid_value"
    assert dict(broken.attributes or {})["error.type"] == "ValueError"
    assert not refused.status.is_ok
    assert "secret" not in "".join(span.to_json() for span in traced.spans)


async def test_a_call_that_its_gateway_did_not_sample_has_no_spans_and_the_same_events(traced: Traced) -> None:
    async with running(loaded(), tracer=traced.tracer) as host:
        found = await events(host, call(2, traceparent=UNSAMPLED))
    assert [type(event) for event in found if isinstance(event, TextDelta | Finished)] == [TextDelta, Finished]
    assert traced.spans == []


def test_the_engine_tells_when_a_row_did_what() -> None:
    class TakesTime(FakeSampler):
        def step(self, states):  # type: ignore[no-untyped-def]
            harness.clock.now += 1.0
            return super().step(states)

    harness = Harness(TakesTime())
    harness.submit(FakeParams(silent=1, steps=3), submitted_at=-0.5)
    harness.finish()
    (outputs,) = harness.outputs.values()
    assert [each.times for each in outputs[:-1]] == [None, None], "the last one alone has them"
    times = outputs[-1].times
    assert times is not None
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert (times.submitted_at, times.started_at, times.first_chunk_at, times.ended_at) == (-0.5, 0.0, 2.0, 4.0)
    assert times.steps == 4


def test_of_a_row_that_never_ran_the_engine_tells_when_it_came_and_went() -> None:
    harness = Harness()
    harness.submit(FakeParams(), deadline=1.0)
    harness.clock.now = 1.0
    harness.finish()
    ((output,),) = harness.outputs.values()
    assert output.times is not None
    assert (output.times.started_at, output.times.first_chunk_at, output.times.ended_at) == (None, None, 1.0)
