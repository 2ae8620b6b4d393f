"""The trace of a chat: a span that is missing, of another parent or of another length than it should be is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtests.observed.collector import Span
from loadtests.observed.trace import (
    CALL,
    CHAT,
    CLIENT,
    IN_TURN,
    PREFILL,
    QUEUE,
    REQUEST,
    ROLES,
    STEPS,
    TRY,
    Asked,
    by_role,
    goals,
    kinship_faults,
)

MODEL, TRACE = "m", "ab" * 16
SENT = 1_700_000_000.0
ASKED = Asked(TRACE, "c1" * 8, MODEL, sent=SENT, first_s=0.315, whole_s=1.02, tokens=48)
MS = {  # begin and end, in milliseconds after the client sent
    REQUEST: (4, 1016),
    TRY: (8, 1012),
    CALL: (10, 1010),
    "prepare": (10, 30),
    QUEUE: (30, 60),
    PREFILL: (60, 308),
    STEPS: (308, 1004),
    "encode": (310, 1006),
}
NAMES = {REQUEST: f"POST {CHAT}", TRY: f"chat {MODEL}", CALL: f"chat {MODEL}"}
SAID = {REQUEST: {"gen_ai.response.time_to_first_chunk": 0.308, "gen_ai.usage.output_tokens": 48}}


def trace() -> dict[str, Span]:
    return {
        name: Span(
            service=role.service,
            name=NAMES.get(name, name),
            kind=role.kind,
            trace=TRACE,
            id=name,
            parent=ASKED.span if role.parent == CLIENT else role.parent,
            began=SENT + MS[name][0] / 1e3,
            ended=SENT + MS[name][1] / 1e3,
            attributes=SAID.get(name, {}),
        )
        for name, role in ROLES.items()
    }


def missed(found: dict[str, Span], asked: Asked = ASKED) -> list[str]:
    return [goal.name.removeprefix("trace: ") for goal in goals(found, asked) if not goal.met]


def test_a_whole_trace_is_told_by_roles_and_keeps_every_bound() -> None:
    found, faults = by_role(list(trace().values()), MODEL)
    assert found == trace()
    assert [*faults, *kinship_faults(found, ASKED), *missed(found)] == []
    assert len(list(goals(found, ASKED))) == 7
    assert ASKED.traceparent == f"00-{TRACE}-{ASKED.span}-01"


@pytest.mark.parametrize("name", list(ROLES))
def test_a_span_that_is_missing_or_there_twice_is_named(name: str) -> None:
    spans = trace()
    _, once_more = by_role([*spans.values(), replace(spans[name], id="other")], MODEL)
    del spans[name]
    _, without = by_role(list(spans.values()), MODEL)
    assert [each.partition(" (")[0] for each in (*without, *once_more)] == [
        f"0 spans are a {name}",
        f"2 spans are a {name}",
    ]


def test_a_span_that_nobody_knows_is_named() -> None:
    strange = replace(trace()[QUEUE], name="nap")
    _, faults = by_role([*trace().values(), strange], MODEL)
    assert faults == ["a span that nobody knows: castalia-replica, nap"]


@pytest.mark.parametrize("name", list(ROLES))
def test_a_span_of_another_parent_or_trace_is_named(name: str) -> None:
    spans = trace()
    spans[name] = replace(spans[name], parent="nobody", trace="cd" * 16)
    assert kinship_faults(spans, ASKED) == [
        f"the parent of {name} is not {ROLES[name].parent}",
        f"{name} is of another trace",
    ]


def shifted(name: str, *, began: float = 0.0, ended: float = 0.0) -> Callable[[dict[str, Span]], None]:
    def change(spans: dict[str, Span]) -> None:
        spans[name] = replace(spans[name], began=spans[name].began + began, ended=spans[name].ended + ended)

    return change


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (shifted("encode", ended=0.02), ["a span reaches out of its parent, ms"]),
        (shifted(TRY, began=-0.01), ["a span reaches out of its parent, ms"]),
        (shifted(QUEUE, ended=-0.01), ["between one part of the call and the next, ms"]),
        (shifted(STEPS, ended=-0.06), [f"the call less {', '.join(IN_TURN)}, ms"]),
        (shifted(REQUEST, ended=0.2), ["the client's time less the request's, ms"]),
    ],
)
def test_a_duration_that_is_wrong_misses_its_bound(change: Callable[[dict[str, Span]], None], names: list[str]) -> None:
    spans = trace()
    change(spans)
    assert missed(spans) == names


def test_what_the_client_saw_is_compared() -> None:
    spans = trace()
    assert missed(spans, replace(ASKED, tokens=47)) == ["the client's tokens less the request's"]
    assert missed(spans, replace(ASKED, first_s=0.45)) == [
        "the client's time to first text less the request's, ms",
        "from the end of prefill to the client's first text, ms",
    ]
    spans[REQUEST] = replace(spans[REQUEST], attributes={"gen_ai.usage.output_tokens": 48})
    assert missed(spans) == ["the client's time to first text less the request's, ms"]
