"""The order of waiting rows: priority, then fair shares of cost, then arrival; and no account outlives its rows."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from services.engine.policy import FairOrder, Ticket

TENANTS = st.sampled_from(["a", "b", "c"])
COSTS = st.floats(min_value=0.0, max_value=100.0)


def enter(order: FairOrder, tenant: str = "a", cost: float = 1.0, weight: float = 1.0, priority: int = 1) -> Ticket:
    return order.enter(tenant=tenant, weight=weight, priority=priority, cost=cost)


def serve_all(order: FairOrder, tickets: list[Ticket]) -> list[Ticket]:
    served = sorted(tickets)
    for ticket in served:
        order.serve(ticket)
    return served


def test_a_lower_priority_number_goes_first_whatever_it_costs() -> None:
    order = FairOrder()
    cheap, costly = enter(order, cost=1, priority=1), enter(order, tenant="b", cost=1000, priority=0)
    assert sorted([cheap, costly]) == [costly, cheap]


@given(st.lists(COSTS, min_size=1, max_size=20))
def test_one_tenant_is_served_in_order_of_arrival(costs: list[float]) -> None:
    order = FairOrder()
    tickets = [enter(order, cost=cost) for cost in costs]
    assert sorted(tickets) == tickets


def test_equal_tenants_with_equal_rows_take_turns() -> None:
    order = FairOrder()
    tickets = [enter(order, "a") for _ in range(3)] + [enter(order, "b") for _ in range(3)]
    assert [ticket.tenant for ticket in serve_all(order, tickets)] == ["a", "b", "a", "b", "a", "b"]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0.1, 100.0)), min_size=2, max_size=60),
    st.floats(0.1, 10.0),
)
def test_backlogged_tenants_share_cost_by_weight(rows: list[tuple[str, float]], weight: float) -> None:
    """Golestani's bound: work over weight differs by at most one row of each, at every moment both wait."""
    order = FairOrder()
    weights = {"a": weight, "b": 1.0}
    costs = {enter(order, tenant, cost, weights[tenant]): cost for tenant, cost in rows}
    largest = {name: max([cost for tenant, cost in rows if tenant == name], default=0.0) for name in weights}
    bound = sum(largest[name] / weights[name] for name in weights)
    left = {name: sum(tenant == name for tenant, _ in rows) for name in weights}
    work: dict[str, float] = defaultdict(float)
    for ticket in serve_all(order, list(costs)):
        if min(left.values()) == 0:
            break
        work[ticket.tenant] += costs[ticket] / weights[ticket.tenant]
        left[ticket.tenant] -= 1
        assert abs(work["a"] - work["b"]) <= bound + 1e-6


def test_three_times_the_weight_is_three_times_the_share() -> None:
    order = FairOrder()
    tickets = [enter(order, tenant, weight=weight) for tenant, weight in (("a", 3.0), ("b", 1.0)) for _ in range(20)]
    assert [ticket.tenant for ticket in sorted(tickets)[:8]].count("a") == 6


def test_a_tenant_whose_row_is_held_back_gains_no_credit_for_its_next_ones() -> None:
    """Rows are served out of order when a group is full: the held row's tag then lies behind virtual time."""
    order = FairOrder()
    enter(order, "held")
    for _ in range(10):
        order.serve(enter(order, "busy"))
    assert sorted([enter(order, "busy"), enter(order, "held")])[0].tenant == "busy"


def test_virtual_time_starts_over_when_nothing_waits() -> None:
    order = FairOrder()
    order.serve(enter(order, cost=50))
    assert enter(order).start == 0


def test_a_newcomer_goes_before_the_rest_of_a_long_backlog() -> None:
    order = FairOrder()
    backlog = [enter(order, "hog") for _ in range(100)]
    for ticket in backlog[:50]:
        order.serve(ticket)
    newcomer = enter(order, "new")
    assert sorted([*backlog[50:], newcomer]).index(newcomer) <= 1


def test_idle_time_earns_no_credit() -> None:
    """Whoever slept while others were served does not overtake all of their rows afterwards."""
    order = FairOrder()
    backlog = [enter(order, "busy") for _ in range(20)]
    for ticket in backlog[:10]:
        order.serve(ticket)
    sleeper = [enter(order, "sleeper") for _ in range(10)]
    first_six = sorted([*backlog[10:], *sleeper])[:6]
    assert sum(ticket.tenant == "busy" for ticket in first_six) == 3


def test_one_row_after_the_other_is_no_way_around_the_shares() -> None:
    """A tenant that always has one cheap row waiting does not starve one with costly rows."""
    order = FairOrder()
    costly = enter(order, "costly", cost=100)
    overtaken = 0
    while (cheap := enter(order, "cheap", cost=1)) < costly:
        order.serve(cheap)
        overtaken += 1
        assert overtaken <= 100


def test_an_aborted_last_row_is_not_charged() -> None:
    order = FairOrder()
    enter(order, "a")
    dropped = enter(order, "a", cost=1000)
    order.drop(dropped)
    again, rival = enter(order, "a"), enter(order, "b", cost=10)
    assert again < rival


@given(st.lists(st.tuples(TENANTS, st.integers(0, 2), COSTS, st.booleans()), max_size=40))
def test_no_account_is_left_when_nothing_waits(rows: list[tuple[str, int, float, bool]]) -> None:
    order = FairOrder()
    waiting = [(enter(order, tenant, cost, priority=priority), served) for tenant, priority, cost, served in rows]
    assert order.accounts == len({(priority, tenant) for tenant, priority, _, _ in rows})
    for ticket, served in sorted(waiting):
        (order.serve if served else order.drop)(ticket)
    assert order.accounts == 0
