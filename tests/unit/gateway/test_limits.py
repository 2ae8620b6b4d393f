"""A tenant's own limits as they are counted: exact, given back, renewed each minute."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.limits.claims import Claim, Refusal, duration
from services.gateway.limits.protocols import Charge
from services.gateway.tenants import Tenant
from shared.errors import QuotaExhausted, RateLimited
from tests.unit.gateway.limit_fakes import MINUTE, Limits, Now, ledger

ALICE = Tenant("alice", requests_per_minute=3, units_per_minute=100, concurrency=2)


def remaining(headers: object, kind: str) -> int:
    assert isinstance(headers, dict)
    return int(headers[f"x-ratelimit-remaining-{kind}"])


async def test_a_minute_admits_so_many_requests_and_the_next_minute_again() -> None:
    limits = Limits()
    limiter = limits.limiter()
    tenant = Tenant("alice", requests_per_minute=3)
    limits.now.seconds = MINUTE + 20.5
    charges = [await limiter.take(tenant, request_id=str(i), units=1) for i in range(3)]
    assert [charge.headers for charge in charges] == [
        {
            "x-ratelimit-limit-requests": "3",
            "x-ratelimit-remaining-requests": left,
            "x-ratelimit-reset-requests": "40s",
        }
        for left in "210"
    ]
    with pytest.raises(RateLimited, match=r"3 requests a minute, and has made them; .* in 40 s\.") as refused:
        await limiter.take(tenant, request_id="4", units=1)
    assert refused.value.retry_after == pytest.approx(39.5)
    assert refused.value.headers == charges[-1].headers
    assert limits.refusals("requests") == 1
    limits.now.seconds = MINUTE + 60
    assert remaining((await limiter.take(tenant, request_id="5", units=1)).headers, "requests") == 2


async def test_the_estimate_is_taken_and_the_difference_to_the_work_given_back() -> None:
    limits = Limits()
    limiter = limits.limiter()
    tenant = Tenant("alice", units_per_minute=100)
    first = await limiter.take(tenant, request_id="1", units=79.2)
    assert first.headers["x-ratelimit-remaining-tokens"] == "20"
    with pytest.raises(
        RateLimited, match=r"100 units a minute: 80 are taken, and this request may need 21;"
    ) as refused:
        await limiter.take(tenant, request_id="2", units=21)
    assert refused.value.headers["x-ratelimit-remaining-tokens"] == "20"
    await first.settle(9.5)
    second = await limiter.take(tenant, request_id="3", units=90)
    assert second.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_work_beyond_the_estimate_counts() -> None:
    limiter = Limits().limiter()
    tenant = Tenant("alice", units_per_minute=100)
    charge = await limiter.take(tenant, request_id="1", units=10)
    await charge.settle(60)
    assert (await limiter.take(tenant, request_id="2", units=1)).headers["x-ratelimit-remaining-tokens"] == "39"


@pytest.mark.parametrize(("units", "left"), [(None, 20), (0.0, 99)])
async def test_an_unknown_end_keeps_the_estimate_and_a_refusal_gives_all_back(units: float | None, left: int) -> None:
    limiter = Limits().limiter()
    tenant = Tenant("alice", units_per_minute=100)
    await (await limiter.take(tenant, request_id="1", units=79)).settle(units)
    charge = await limiter.take(tenant, request_id="2", units=1)
    assert charge.headers["x-ratelimit-remaining-tokens"] == str(left)


async def test_nothing_is_given_back_to_a_minute_that_it_was_not_taken_from() -> None:
    limits = Limits()
    limiter = limits.limiter()
    tenant = Tenant("alice", units_per_minute=100)
    old = await limiter.take(tenant, request_id="1", units=100)
    limits.now.seconds += 60
    await limiter.take(tenant, request_id="2", units=60)
    await old.settle(0)
    with pytest.raises(RateLimited, match="60 are taken"):
        await limiter.take(tenant, request_id="3", units=41)


async def test_a_request_that_one_limit_refuses_takes_nothing_of_the_others() -> None:
    limits = Limits()
    limiter = limits.limiter()
    held = [await limiter.take(ALICE, request_id=str(i), units=10) for i in range(2)]
    with pytest.raises(RateLimited, match="2 requests in progress at once") as no_place:
        await limiter.take(ALICE, request_id="x", units=10)
    await held[0].settle(None)
    with pytest.raises(RateLimited, match="100 units a minute") as no_units:
        await limiter.take(ALICE, request_id="y", units=90)
    last = await limiter.take(ALICE, request_id="z", units=80)
    for headers in (no_place.value.headers, no_units.value.headers):
        assert (remaining(headers, "requests"), remaining(headers, "tokens")) == (1, 80)
    assert (remaining(last.headers, "requests"), remaining(last.headers, "tokens")) == (0, 0)
    assert (limits.refusals("concurrency"), limits.refusals("units")) == (1, 1)


async def test_a_refusal_by_requests_tells_the_units_that_are_left() -> None:
    limiter = Limits().limiter()
    tenant = Tenant("alice", requests_per_minute=1, units_per_minute=100)
    await limiter.take(tenant, request_id="1", units=30)
    with pytest.raises(RateLimited, match="1 requests a minute") as refused:
        await limiter.take(tenant, request_id="2", units=30)
    assert remaining(refused.value.headers, "tokens") == 70


async def test_places_are_those_of_requests_in_progress() -> None:
    limiter = Limits().limiter()
    tenant = Tenant("alice", concurrency=1)
    for i in range(5):
        charge = await limiter.take(tenant, request_id=str(i), units=1)
        assert charge.headers == {}
        with pytest.raises(RateLimited) as refused:
            await limiter.take(tenant, request_id="other", units=1)
        assert refused.value.retry_after == 1
        await charge.settle(None)


async def test_tenants_do_not_share_a_budget() -> None:
    limiter = Limits().limiter()
    for name in ("alice", "bob"):
        await limiter.take(Tenant(name, requests_per_minute=1, concurrency=1), request_id=name, units=1)


async def test_a_changed_limit_holds_at_once_and_forgets_nothing() -> None:
    limiter = Limits().limiter()
    for i in range(3):
        await limiter.take(Tenant("alice", requests_per_minute=3), request_id=str(i), units=1)
    more = await limiter.take(Tenant("alice", requests_per_minute=5), request_id="3", units=1)
    assert remaining(more.headers, "requests") == 1
    with pytest.raises(RateLimited):
        await limiter.take(Tenant("alice", requests_per_minute=2), request_id="4", units=1)


async def test_what_never_fits_is_told_both_figures_and_not_to_come_again() -> None:
    limits = Limits()
    limiter = limits.limiter()
    with pytest.raises(
        RateLimited, match=r"may need 12,000 units, and tenant 'alice' may take 100 a minute"
    ) as refused:
        await limiter.take(ALICE, request_id="1", units=12_000)
    assert refused.value.headers["x-should-retry"] == "false"
    assert remaining(refused.value.headers, "tokens") == 100
    with pytest.raises(RateLimited, match="inf units"):
        await limiter.take(ALICE, request_id="2", units=float("inf"))
    assert limits.refusals("units") == 2


@pytest.mark.parametrize(
    ("today", "renewal"),
    [
        ("2026-01-31T23:00:00", "2026-02-01"),
        ("2026-12-01T00:00:00", "2027-01-01"),
        ("2028-02-29T01:00:00", "2028-03-01"),
    ],
)
async def test_a_spent_quota_ends_the_month(today: str, renewal: str) -> None:
    limits = Limits(Now(datetime.fromisoformat(today).replace(tzinfo=UTC).timestamp()), {"alice": 999.0})
    limiter = limits.limiter()
    tenant = Tenant("alice", units_per_month=1000, requests_per_minute=10)
    await limiter.take(tenant, request_id="1", units=1)
    limits.used["alice"] = 1000.4
    with pytest.raises(QuotaExhausted, match=f"1,000 units a month, and has taken 1,000; .* {renewal}") as refused:
        await limiter.take(tenant, request_id="2", units=1)
    assert refused.value.retry_after is not None
    renewed = datetime.fromtimestamp(limits.now.seconds + refused.value.retry_after, UTC)
    assert renewed.isoformat() == f"{renewal}T00:00:00+00:00"
    assert refused.value.headers["x-should-retry"] == "false"
    assert remaining(refused.value.headers, "requests") == 9
    assert limits.refusals("quota") == 1


class NoBook:
    """Fails the test if it is asked."""

    async def take(self, claim: Claim) -> Charge:
        raise AssertionError(claim)

    async def look(self, claim: Claim) -> dict[str, str]:
        raise AssertionError(claim)

    async def close(self) -> None:
        """Nothing is held."""


async def test_tenants_without_limits_cost_no_storage_call() -> None:
    charge = await Limits().limiter(NoBook()).take(Tenant("alice", units_per_month=5), request_id="1", units=1e9)
    await charge.settle(3)
    assert charge.headers == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0ms"),
        (0, "0ms"),
        (0.0113, "12ms"),
        (0.999, "999ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (59, "59s"),
        (59.2, "1m0s"),
        (61.5, "1m2s"),
        (360, "6m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("settle"), st.integers(0, 20), st.integers(-1, 60)),  # which; the work, -1 if not known
        st.tuples(st.just("wait"), st.integers(1, 70), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whatever_is_given_back_counts_are_exact_never_negative_and_never_over(steps: list[Step]) -> None:
    asyncio.run(_compare_with_a_model(steps))


async def _compare_with_a_model(steps: list[Step]) -> None:
    """The model: of each minute, the sum of what was admitted in it and not given back."""
    now = Now()
    book = ledger(now)
    tenant = Tenant("alice", units_per_minute=100, concurrency=5)
    open_: list[tuple[Charge, float, int]] = []  # with its minute and its estimate
    taken: dict[float, int] = {}
    for i, (what, first, second) in enumerate(steps):
        minute = now.seconds // 60
        if what == "wait":
            now.seconds += first
        elif what == "take":
            found = await book.take(Claim.of(tenant, str(i), first))
            fits = taken.get(minute, 0) + first <= 100 and len(open_) < 5
            assert isinstance(found, Refusal) != fits
            if not isinstance(found, Refusal):
                taken[minute] = taken.get(minute, 0) + first
                open_.append((found, minute, first))
        elif open_:
            charge, its_minute, estimate = open_.pop(first % len(open_))
            work = min(second, estimate)
            await charge.settle(None if second < 0 else work)
            if second >= 0 and its_minute == minute:
                taken[minute] -= estimate - work
        left = int((await book.look(Claim.of(tenant, "", 0)))["x-ratelimit-remaining-tokens"])
        assert left == 100 - taken.get(now.seconds // 60, 0)
        assert 0 <= left <= 100
