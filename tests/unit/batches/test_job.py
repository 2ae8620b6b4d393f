"""One batch from its lease to its files: what is checked, run, retried, recorded and written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.batches import ledger as ledger_module
from services.gateway.batches.in_process import Answer
from services.gateway.batches.job import REST_S, Job
from services.gateway.batches.ledger import LeaseLost, Ledger, Result
from services.gateway.batches.lines import MAX_NUMBER
from services.gateway.store.usage_rows import UsageRow
from services.gateway.tenants import Tenant
from shared.errors import Conflict
from shared.schemas.batches import WINDOW_S
from tests.unit.batches.desk import CHAT, LEASE_S, TENANT, TOKENS, Desk, answer, request_line, request_lines


async def test_every_line_has_its_answer_in_the_inputs_order(desk: Desk) -> None:
    batch = await desk.begin(request_lines(100))
    await desk.run()
    ended = await desk.now_of(batch)
    assert (ended.status, ended.total, ended.completed, ended.failed) == ("completed", 100, 100, 0)
    lines = await desk.lines_of(ended.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"line-{number}" for number in range(1, 101)]
    assert lines[0]["response"] == {"status_code": 200, "request_id": "req_1", "body": {"echo": "line-1"}}
    assert lines[0]["error"] is None
    assert len({line["id"] for line in lines}) == 100
    assert ended.error_file_id is None
    assert ended.completion_tokens == 100 * TOKENS


async def test_each_line_is_charged_once_and_nothing_is_kept_twice(desk: Desk) -> None:
    await desk.begin(request_lines(10))
    await desk.run()
    assert await desk.charged() == (10, 10 * TOKENS)
    assert await desk.kept_results() == 0
    assert len(desk.asked) == 10


async def test_lines_that_fail_go_to_the_error_file(desk: Desk) -> None:
    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        return answer(tenant, body, 400 if json.loads(body)["word"] == "line-2" else 200)

    batch = await desk.begin(request_lines(3))
    await desk.run(desk.means(ask=ask))
    ended = await desk.now_of(batch)
    assert (ended.status, ended.completed, ended.failed) == ("completed", 2, 1)
    assert [line["custom_id"] for line in await desk.lines_of(ended.output_file_id)] == ["line-1", "line-3"]
    (failed,) = await desk.lines_of(ended.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"], failed["error"]) == ("line-2", 400, None)
    assert await desk.charged() == (2, 2 * TOKENS), "what was refused costs nothing"


@pytest.mark.parametrize("status", [429, 503, 504])
async def test_a_line_that_finds_no_room_is_tried_again_when_it_was_told_to(desk: Desk, status: int) -> None:
    tries: list[str] = []

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        tries.append(json.loads(body)["word"])
        return answer(tenant, body, *((status,) if len(tries) <= 5 else ()), retry_after=7.0)

    batch = await desk.begin(request_lines(1))
    await desk.run(desk.means(ask=ask))
    assert (await desk.now_of(batch)).completed == 1
    assert tries == ["line-1"] * 6
    assert desk.slept == [7.0] * 5
    assert await desk.charged() == (1, TOKENS)


async def test_a_fault_of_the_server_is_the_result_after_three_tries(desk: Desk) -> None:
    tries: list[str] = []

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        tries.append(json.loads(body)["word"])
        return answer(tenant, body, 500)

    batch = await desk.begin(request_lines(1))
    await desk.run(desk.means(ask=ask))
    ended = await desk.now_of(batch)
    assert (len(tries), ended.status, ended.failed) == (3, "completed", 1)
    (line,) = await desk.lines_of(ended.error_file_id)
    assert line["response"]["status_code"] == 500


async def test_a_line_that_took_all_its_time_is_not_tried_for_ever(desk: Desk) -> None:
    tries: list[str] = []

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        tries.append(json.loads(body)["word"])
        late = answer(tenant, body, 504)
        late.record.completion_tokens = TOKENS
        return late

    batch = await desk.begin(request_lines(1))
    await desk.run(desk.means(ask=ask))
    assert (len(tries), (await desk.now_of(batch)).failed) == (3, 1)


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (b'"\xff"', "invalid_json_line", None),
        (b"[" * 4000, "invalid_json_line", None),
        ({**request_line("a"), "custom_id": 7}, "invalid_custom_id", "custom_id"),
        ({**request_line("a"), "custom_id": ""}, "invalid_custom_id", "custom_id"),
        ({**request_line("a"), "custom_id": "\ud800"}, "invalid_json_line", None),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "invalid_json_line", None),
        ({**request_line("a"), "method": "GET"}, "invalid_method", "method"),
        ({**request_line("a"), "url": "/v1/completions"}, "invalid_url", "url"),
        ({**request_line("a"), "body": "x"}, "invalid_type", "body"),
        ({**request_line("a"), "priority": "high"}, "unknown_parameter", "priority"),
        ({"custom_id": "a", "method": "POST", "url": CHAT}, "missing_required_parameter", "body"),
        (request_line("a", stream=True), "invalid_value", "body.stream"),
        (request_line("line-1"), "duplicate_custom_id", "custom_id"),
        (b" " * 5000 + b"{}", "line_too_long", None),
    ],
)
async def test_a_line_that_cannot_be_run_fails_the_batch_by_its_number(
    desk: Desk, line: dict[str, Any] | bytes, code: str, param: str | None
) -> None:
    batch = await desk.begin([request_line("line-1"), b"", line])
    await desk.run()
    ended = await desk.now_of(batch)
    assert ended.status == "failed"
    assert ended.errors is not None
    assert [(each["code"], each["line"], each["param"]) for each in ended.errors] == [(code, 3, param)]
    assert desk.asked == []


async def test_an_empty_input_fails_the_batch(desk: Desk) -> None:
    batch = await desk.begin([b"", b"  "])
    await desk.run()
    ended = await desk.now_of(batch)
    assert (ended.status, ended.errors and ended.errors[0]["code"]) == ("failed", "empty_file")


async def test_a_file_of_nothing_but_bad_lines_costs_a_hundred_errors(desk: Desk) -> None:
    batch = await desk.begin([b"x"] * 500)
    await desk.run()
    errors = (await desk.now_of(batch)).errors
    assert errors is not None
    assert len(errors) == 100


async def test_too_many_lines_are_refused_whole(desk: Desk) -> None:
    batch = await desk.begin(request_lines(50_001))
    await desk.run()
    errors = (await desk.now_of(batch)).errors
    assert [error["code"] for error in errors or ()] == ["too_many_lines"]


async def test_a_cancelled_batch_ends_with_what_it_has(desk: Desk) -> None:
    second = asyncio.Event()

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        desk.asked.append(json.loads(body)["word"])
        if desk.asked[-1] == "line-2":
            second.set()
            await asyncio.Event().wait()
        return answer(tenant, body)

    batch = await desk.begin(request_lines(3))
    means = desk.means(ask=ask, slots=1)
    (claimed,) = await means.ledger.claim(1)
    job = Job(claimed, means)
    running = asyncio.create_task(job.run())
    await second.wait()
    assert (await desk.book.cancel(TENANT, batch.id)).status == "cancelling"
    job.end_early()
    await running
    ended = await desk.now_of(batch)
    assert (ended.status, ended.total, ended.completed, ended.failed) == ("cancelled", 3, 1, 0)
    assert [line["custom_id"] for line in await desk.lines_of(ended.output_file_id)] == ["line-1"]
    errors = await desk.lines_of(ended.error_file_id)
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [
        ("line-2", "batch_cancelled"),
        ("line-3", "batch_cancelled"),
    ]
    assert await desk.charged() == (1, TOKENS)
    assert means.slots.free == 1, "an aborted line gives its slot back"


async def test_a_batch_whose_time_is_over_ends_with_what_it_has(desk: Desk) -> None:
    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        if json.loads(body)["word"] == "line-2":
            desk.time += WINDOW_S
            jobs[0].end_early()  # as the runner's next beat does
            await asyncio.Event().wait()
        return answer(tenant, body)

    batch = await desk.begin(request_lines(3))
    means = desk.means(ask=ask, slots=1)
    (claimed,) = await means.ledger.claim(1)
    jobs = [Job(claimed, means)]
    await jobs[0].run()
    ended = await desk.now_of(batch)
    assert (ended.status, ended.completed, ended.moments["expired"]) == ("expired", 1, desk.time)
    codes = [line["error"]["code"] for line in await desk.lines_of(ended.error_file_id)]
    assert codes == ["batch_expired", "batch_expired"]


async def test_a_batch_that_is_cancelled_before_it_is_checked_has_no_files(desk: Desk) -> None:
    batch = await desk.begin(request_lines(3))
    await desk.book.cancel(TENANT, batch.id)
    await desk.run()
    ended = await desk.now_of(batch)
    assert (ended.status, ended.output_file_id, ended.error_file_id, desk.asked) == ("cancelled", None, None, [])


async def test_a_batch_that_has_ended_cannot_be_cancelled_but_cancelling_twice_is_no_error(desk: Desk) -> None:
    done = await desk.begin(request_lines(1))
    await desk.run()
    with pytest.raises(Conflict, match="completed"):
        await desk.book.cancel(TENANT, done.id)
    again = await desk.begin(request_lines(1))
    await desk.book.cancel(TENANT, again.id)
    assert (await desk.book.cancel(TENANT, again.id)).status == "cancelling"


async def test_a_batch_whose_tenant_may_not_spend_is_left_and_goes_on_after_a_rest(desk: Desk) -> None:
    tenant = desk.tenants.pop(TENANT)
    batch = await desk.begin(request_lines(3))

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        desk.tenants.pop(TENANT, None)
        return await desk.ask(tenant, path, body)

    await desk.run(desk.means(ask=ask))
    assert (desk.asked, (await desk.now_of(batch)).status) == ([], "validating")
    desk.tenants[TENANT] = tenant
    assert await desk.ledger().claim(1) == []
    desk.time += REST_S
    await desk.run(desk.means(ask=ask, slots=1))
    assert (desk.asked, (await desk.now_of(batch)).completed) == (["line-1"], 1)
    desk.tenants[TENANT] = tenant
    desk.time += REST_S
    await desk.run()
    assert (await desk.now_of(batch)).status == "completed"
    assert await desk.charged() == (3, 3 * TOKENS)


async def test_lines_run_under_the_tenants_limits_of_their_moment(desk: Desk) -> None:
    seen: list[Tenant] = []

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        seen.append(tenant)
        desk.tenants[TENANT] = Tenant(TENANT, models=frozenset())
        return answer(tenant, body)

    await desk.begin(request_lines(2))
    await desk.run(desk.means(ask=ask, slots=1))
    assert [tenant.models for tenant in seen] == [None, frozenset()]


async def test_a_gateway_that_lost_its_lease_records_and_charges_nothing(desk: Desk) -> None:
    batch = await desk.begin(request_lines(2))
    first, second = desk.ledger(), desk.ledger()
    await first.claim(1)
    await first.begin(batch.id, 2)
    assert await second.claim(1) == []
    desk.time += 16
    (taken,) = await second.claim(1)
    used = UsageRow(TENANT, "tiny", "2026-01-01", requests=1)
    with pytest.raises(LeaseLost):
        await first.record(batch.id, Result(1, 200, "{}"), used)
    assert await first.renew([batch.id]) == {}
    await second.record(batch.id, Result(1, 200, "{}"), used)
    await second.record(batch.id, Result(1, 500, "{}"), used)
    assert await desk.charged() == (1, 0)
    now = await desk.now_of(taken)
    assert (now.completed, now.failed) == (1, 0)
    with pytest.raises(LeaseLost):
        await first.finish(batch.id, "completed", output=None, error=None)


async def test_a_line_that_is_computed_as_the_batch_ends_early_is_kept(desk: Desk) -> None:
    class SlowLedger(Ledger):
        async def record(self, batch_id: str, result: Result, used: UsageRow | None) -> None:
            jobs[0].end_early()
            await asyncio.sleep(0)
            await super().record(batch_id, result, used)

    batch = await desk.begin(request_lines(1))
    means = desk.means(ledger=SlowLedger(desk.store, lease_s=LEASE_S, now=desk.now))
    (claimed,) = await means.ledger.claim(1)
    jobs = [Job(claimed, means)]
    await jobs[0].run()
    assert (await desk.now_of(batch)).completed == 1
    assert await desk.charged() == (1, TOKENS)


async def test_what_a_gateway_without_its_lease_writes_is_not_the_batchs_file(desk: Desk, tmp_path: Path) -> None:
    reads, goes_on = asyncio.Event(), asyncio.Event()

    class SlowLedger(Ledger):
        async def results(self, batch_id: str, first: int, last: int) -> AsyncGenerator[Result]:
            reads.set()
            await goes_on.wait()
            async for result in super().results(batch_id, first, last):
                yield result

    batch = await desk.begin(request_lines(3))
    late = desk.means(ledger=SlowLedger(desk.store, lease_s=LEASE_S, now=desk.now))
    (claimed,) = await late.ledger.claim(1)
    running = asyncio.create_task(Job(claimed, late).run())
    await reads.wait()
    desk.time += LEASE_S + 1
    await desk.run()
    goes_on.set()
    with pytest.raises(LeaseLost):
        await running
    ended = await desk.now_of(batch)
    assert [line["custom_id"] for line in await desk.lines_of(ended.output_file_id)] == ["line-1", "line-2", "line-3"]
    assert ended.error_file_id is None
    left = {path.name for path in (tmp_path / "blobs").iterdir() if path.is_file()}
    assert left == {batch.input_file_id, ended.output_file_id}


async def test_results_are_read_few_bytes_at_a_time_and_in_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PORTION", 5)
    batch = await desk.begin(request_lines(9))
    ledger = desk.ledger()
    await ledger.claim(1)
    await ledger.begin(batch.id, 9)
    texts = {1: "a", 2: "bb", 4: "cc", 5: "dddddddd", 6: "e", 9: "f"}
    for line, text in texts.items():
        await ledger.record(batch.id, Result(line, 200, text), None)
    found = [result async for result in ledger.results(batch.id, 1, 9)]
    assert {result.line: result.text for result in found} == texts
    assert [result.line for result in found] == sorted(texts)
    assert list(ledger_module._portions([(line, len(text)) for line, text in texts.items()])) == [
        (1, 4),
        (5, 5),
        (6, 9),
    ]


async def test_a_file_of_nothing_but_blank_lines_is_read_no_further_than_needed(
    desk: Desk,
) -> None:
    batch = await desk.begin([b""] * (MAX_NUMBER + 1))
    await desk.run()
    errors = (await desk.now_of(batch)).errors
    assert [error["code"] for error in errors or ()] == ["too_many_lines"]
