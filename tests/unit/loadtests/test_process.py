"""One process's part of a load: what it draws, what it counts, and how it ends."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from random import Random
from typing import Any

import gevent

from loadtests.generator.exchange import Client
from loadtests.generator.loops import ClosedLoop, OpenLoop
from loadtests.generator.options import LoadOptions
from loadtests.generator.plan import Plan
from loadtests.generator.process import Process
from loadtests.generator.rows import rows_of, unsent_row
from loadtests.objectives import Objectives
from loadtests.outcomes import Outcome, Reply
from loadtests.prompts import Inputs
from loadtests.traffic.trace import Arrival
from loadtests.users.asks import Target
from tests.unit.loadtests.fake_fleet import FakeFleet
from tests.unit.loadtests.test_outcomes import outcome

CHATS = "/v1/chat/completions"


def process(
    fleet: FakeFleet, *, tell: Callable[[Outcome], None] = lambda _: None, share: int = 0, **given: Any
) -> Process:
    target = Target(model="good")
    plan = Plan(
        targets={"chat": (target, Target(model="refuses")), "completion": (target,)},
        weights={"chat": 3.0, "completion": 1.0},
        inputs=Inputs(),
        objectives=Objectives({}),
        share=share,
        trace=given.pop("arrivals_of_trace", ()),
    )
    return Process(
        host=fleet.url, options=LoadOptions.of(Namespace(**given)), plan=plan, tell=tell, unsent=lambda _: None
    )


def run(found: Process, loop: Any, *, count: int) -> None:
    """Until so many requests have been answered."""
    with gevent.Timeout(20):
        while found_count(found) < count:
            loop.ask()
            gevent.sleep(min(0.01, loop.wait_s()))


def found_count(found: Process) -> int:
    return sum(group.sent - group.in_flight for group in found.tally.groups())


def bodies(fleet: FakeFleet, **given: Any) -> list[tuple[str, str]]:
    """What a seeded user sends: 25 requests or some more."""
    began = len(fleet.requests)
    found = process(fleet, per_user=200, **given)
    run(found, found.loop(""), count=25)
    found.drain(5)
    found.end()
    return [(each.path, str(each.body)) for each in fleet.requests[began:]]


def test_the_same_seed_and_share_send_the_same_requests(fake_fleet: FakeFleet) -> None:
    first, again = bodies(fake_fleet, seed=1), bodies(fake_fleet, seed=1)
    assert set(first[:15]) <= set(again)
    assert not set(first) & set(bodies(fake_fleet, seed=1, share=1))
    assert not set(first) & set(bodies(fake_fleet, seed=2))


def test_a_mix_has_its_weights_and_a_named_user_asks_for_its_own(fake_fleet: FakeFleet) -> None:
    found = process(fake_fleet, per_user=300, seed=1)
    run(found, found.loop(""), count=120)
    chats = len(fake_fleet.of(CHATS))
    assert 0.6 < chats / len(fake_fleet.requests) < 0.9
    assert 0 < len(fake_fleet.of(CHATS, "refuses")) < chats, "all models of a modality are asked"
    found.drain(5)
    found.end()
    alone = process(fake_fleet, per_user=300, seed=1)
    fake_fleet.requests.clear()
    run(alone, alone.loop("completion"), count=20)
    alone.drain(5)
    alone.end()
    assert {each.path for each in fake_fleet.requests} == {"/v1/completions"}


def test_a_line_of_a_trace_says_what_whom_and_how_long(fake_fleet: FakeFleet) -> None:
    lines = (Arrival(0.0, "chat", "refuses", 8, 77), Arrival(0.0, "", "refuses"), Arrival(0.1, "completion"))
    found = process(fake_fleet, trace="given.csv", arrivals_of_trace=lines)
    found.begin()
    gevent.sleep(0.5)
    assert found.drain(5) == 0
    found.end()
    first, second, third = fake_fleet.requests
    named = {(each.path, each.body["model"]) for each in (first, second)}
    assert named == {(CHATS, "refuses")}, "the one modality that the model does"
    (full,) = [each for each in (first, second) if each.body["max_tokens"] == 77]
    assert len(full.body["messages"][0]["content"].split()) == 6
    assert (third.path, third.body["model"]) == ("/v1/completions", "good")
    assert 0.05 < third.at - first.at < 0.4


def test_a_user_beside_a_trace_sends_nothing_of_its_own(fake_fleet: FakeFleet) -> None:
    loop = process(fake_fleet, trace="given.csv").loop("")
    loop.ask()
    assert loop.wait_s() > 1000
    assert not fake_fleet.requests


class Told:
    """A sender that notes what it is told, and whose clock is set by hand."""

    def __init__(self) -> None:
        self.is_over, self.at = False, 0.0
        self.sent: list[float] = []

    def now(self) -> float:
        return self.at

    def launch(self, client: Client, rng: Random, arrival: Arrival, *, asks_for: str) -> None:
        self.sent.append(arrival.at)

    def ask(self, client: Client, rng: Random, *, asks_for: str) -> None:
        self.sent.append(self.at)


def test_an_open_loop_sends_all_that_is_due_and_nothing_before_its_time(fake_fleet: FakeFleet) -> None:
    told = Told()
    loop = OpenLoop(told, Client(fake_fleet.url, connections=1), Random(0), map(Arrival, (1.0, 2.0, 2.0, 9.0)))
    loop.ask()
    assert (told.sent, loop.wait_s()) == ([], 1.0)
    told.at = 2.5  # the user was held up
    loop.ask()
    assert (told.sent, loop.wait_s()) == ([1.0, 2.0, 2.0], 6.5)
    told.at, told.is_over = 10.0, True
    loop.ask()
    assert len(told.sent) == 3
    assert loop.wait_s() > 1000


def test_a_closed_loop_thinks_between_an_answer_and_the_next_request(fake_fleet: FakeFleet) -> None:
    told = Told()
    loop = ClosedLoop(told, Client(fake_fleet.url, connections=1), Random(0))
    loop.ask()
    assert all(0.1 <= loop.wait_s() <= 1.0 for _ in range(20))
    told.is_over = True
    loop.ask()
    assert told.sent == [0.0]


def test_the_bound_in_flight_holds_and_what_is_over_it_is_counted(fake_fleet: FakeFleet) -> None:
    fake_fleet.gap_s = 0.1
    found = process(fake_fleet, max_in_flight=2)
    with closing(Client(fake_fleet.url, connections=2)) as client:
        for _ in range(5):
            found.launch(client, Random(0), Arrival(found.now(), "chat", "good"), asks_for="")
        assert found.drain(5) == 0
    (group,) = found.tally.groups()
    assert (group.sent, group.answered, group.unsent, found.tally.due) == (2, 2, 3, 5)


def test_what_does_not_end_in_time_is_given_up_and_stays_sent(fake_fleet: FakeFleet) -> None:
    fake_fleet.gap_s = 5
    told: list[Outcome] = []
    found = process(fake_fleet, tell=told.append)
    with closing(Client(fake_fleet.url, connections=2)) as client:
        found.launch(client, Random(0), Arrival(0.0, "chat", "good"), asks_for="")
        assert found.drain(0.2) == 1
        found.end()
        gevent.sleep(0.05)
    (group,) = found.tally.groups()
    assert (group.sent, group.in_flight, told) == (1, 1, [])


def test_what_is_taken_is_taken_once(fake_fleet: FakeFleet) -> None:
    found = process(fake_fleet)
    with closing(Client(fake_fleet.url, connections=2)) as client:
        found.launch(client, Random(0), Arrival(0.0, "chat", "good"), asks_for="")
        found.drain(5)
    assert (found.take()["due"], found.take()["due"]) == (1, 0)


def test_rows_of_chat_have_no_title_and_those_of_others_have_theirs() -> None:
    answered = outcome(reply=Reply("answered", 200, queue_s=0.1))
    chat = {(row.request_type, row.name): row.response_time for row in rows_of(answered)}
    assert chat == {
        ("POST", CHATS): 4000.0,
        ("ms", "time to first token"): 2000.0,
        ("ms", "between tokens, p50"): 500.0,
        ("ms", "between tokens, p99"): 1000.0,
        ("ms", "queue time"): 100.0,
        ("1/s", "tokens per second"): 4.0,
    }
    image = [row.name for row in rows_of(outcome(modality="image"))]
    assert image[:2] == ["/v1/images/generations", "image: time to first preview"]
    assert not any("per second" in name for name in image)


def test_what_is_no_answer_has_one_row_whose_error_says_what_it_was() -> None:
    (row,) = rows_of(outcome(reply=Reply("truncated", 200, "the stream ended without [DONE]")))
    assert repr(row.exception) == "Truncated('the stream ended without [DONE]')"
    assert repr(unsent_row("chat", 7).exception) == "Unsent('7 requests were in flight (--max-in-flight)')"
