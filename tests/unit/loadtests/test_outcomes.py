"""What becomes of a request, and which answers are good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loadtests.generator.exchange import queue_seconds
from loadtests.objectives import Objective, Objectives
from loadtests.outcomes import Outcome, Reply, reply_of_status
from tests.unit.loadtests.fake_fleet import error

ANSWERED = Reply("answered", 200)


def outcome(**changes: Any) -> Outcome:
    """Due at 10, sent at 11, first text at 12, then three more, ended at 14."""
    fields: dict[str, Any] = {"modality": "chat", "model": "m", "reply": ANSWERED, "due": 10.0, "started": 11.0}
    fields |= {"first": 12.0, "gaps": (0.5, 0.25, 1.0), "ended": 14.0, "units": 8.0}
    return Outcome(**(fields | changes))


def test_all_waiting_counts_from_the_due_time_and_not_from_the_sending() -> None:
    found = outcome()
    assert (found.time_to_first_s, found.end_to_end_s, found.lag_s) == (2.0, 4.0, 1.0)


def test_the_rate_is_that_after_the_first_piece() -> None:
    assert outcome().units_per_second == pytest.approx(7 / 1.75)
    assert outcome(gaps=()).units_per_second is None
    assert outcome(units=1).units_per_second is None


def test_gaps_have_quantiles_and_a_whole_answer_has_none() -> None:
    assert outcome().gap_s(0.5) == 0.5
    assert outcome().gap_s(0.99) == 1.0
    assert outcome(gaps=(), first=None).gap_s(0.99) is None


@pytest.mark.parametrize(
    ("status", "retry_after", "body", "verdict", "cause"),
    [
        (503, "2", error("server_is_overloaded"), "refused", "503 server_is_overloaded"),
        (503, "31", error("server_is_overloaded"), "refused", "503 not well-formed"),
        (503, None, error("server_is_overloaded"), "refused", "503 not well-formed"),
        (503, "2", b"busy", "refused", "503 not well-formed"),
        (429, "120", error("rate_limit_exceeded"), "refused", "429 rate_limit_exceeded"),
        (429, "0", error("rate_limit_exceeded"), "refused", "429 not well-formed"),
        (504, None, error("deadline_exceeded"), "late", "504 deadline_exceeded"),
        (400, None, error("invalid_value"), "failed", "400 invalid_value"),
        (500, None, b"<html>", "failed", "500 without an error body"),
    ],
)
def test_a_status_says_what_became_of_a_request(
    status: int, retry_after: str | None, body: bytes, verdict: str, cause: str
) -> None:
    reply = reply_of_status(status, retry_after, body, 0.5)
    assert (reply.verdict, reply.cause, reply.status, reply.queue_s) == (verdict, cause, status, 0.5)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("queue;dur=7.5", 0.0075),
        ("admit;dur=1, queue;dur=250, total;dur=9", 0.25),
        ('queue;desc="waiting";dur=4', 0.004),
        ("QUEUE; DUR=4", 0.004),
        ("queue", None),
        ("myqueue;dur=4", None),
        ("queue;dur=1.2.3", None),
        ("", None),
        (None, None),
    ],
)
def test_the_wait_in_the_queue_is_read_from_the_header_where_it_is(header: str | None, seconds: float | None) -> None:
    assert queue_seconds(header) == seconds


@pytest.mark.parametrize(
    ("objective", "is_met"),
    [
        ({}, True),
        ({"time_to_first_s": 2.0, "between_chunks_p99_s": 1.0, "end_to_end_s": 4.0}, True),
        ({"time_to_first_s": 1.9}, False),
        ({"between_chunks_p99_s": 0.9}, False),
        ({"end_to_end_s": 3.9}, False),
    ],
)
def test_an_answer_is_good_that_keeps_every_bound(objective: dict[str, float], is_met: bool) -> None:
    assert Objectives({"chat": Objective(**objective)}).is_good(outcome()) is is_met
    assert Objectives({"image": Objective(**objective)}).is_good(outcome()), "a bound of another modality"


def test_what_an_answer_has_not_is_not_asked_of_it() -> None:
    objectives = Objectives({"chat": Objective(time_to_first_s=0.1, between_chunks_p99_s=0.1)})
    assert objectives.is_good(outcome(first=None, gaps=()))


def test_no_objective_makes_a_refusal_good() -> None:
    assert not Objectives({}).is_good(outcome(reply=Reply("refused", 503)))


def test_objectives_come_from_a_file_that_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "objectives.yaml"
    path.write_text("chat: {time_to_first_s: 0.5}\nimage: {end_to_end_s: 3}\n")
    assert Objectives.read(path).root["image"] == Objective(end_to_end_s=3)
    path.write_text("chat: {first_token_s: 0.5}\n")
    with pytest.raises(ValidationError, match="first_token_s"):
        Objectives.read(path)
