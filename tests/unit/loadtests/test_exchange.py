"""One exchange with a server that answers well, badly, late and not at all."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest

from loadtests.generator.answers import Reader
from loadtests.generator.exchange import Client, Unreachable
from loadtests.outcomes import Reply
from tests.unit.loadtests.fake_fleet import QUEUE_MS, TOKENS, FakeFleet
from tests.unit.loadtests.test_users import MODALITIES, Target, wish


def ask(fleet: FakeFleet, model: str, task: str = "chat", *, stream: bool = True) -> tuple[Reply, Reader]:
    """Of the modality's first request that streams, or does not."""
    modality = MODALITIES[task]
    target = wish().target.model_copy(update={"model": model})
    asks = (modality.draw(wish(seed, target=target)) for seed in range(50))
    found = next(each for each in asks if b'"stream":true' in each.body or not stream)
    with closing(Client(fleet.url, connections=2)) as client:
        return client.post(modality.path, found.body, found.reader), found.reader


def test_pieces_are_seen_as_they_arrive_and_not_when_many_have(fake_fleet: FakeFleet) -> None:
    fake_fleet.gap_s = 0.1  # an answer takes 0.6 s
    began = time.perf_counter()
    reply, reader = ask(fake_fleet, "good")
    assert reply == Reply("answered", 200, queue_s=QUEUE_MS / 1e3)
    assert reader.units == TOKENS
    assert reader.pace.first is not None
    assert 0.1 <= reader.pace.first - began < 0.35
    assert len(reader.pace.gaps) == TOKENS - 1
    assert all(0.04 < gap < 0.35 for gap in reader.pace.gaps)


@pytest.mark.parametrize(
    ("model", "task", "stream", "verdict", "cause"),
    [
        ("refuses", "chat", True, "refused", "503 server_is_overloaded"),
        ("refuses-badly", "chat", True, "refused", "503 not well-formed"),
        ("misses", "chat", True, "late", "504 deadline_exceeded"),
        ("wrong", "chat", True, "failed", "400 invalid_value"),
        ("breaks", "chat", True, "failed", "internal_error inside the answer"),
        ("ends-early", "chat", True, "truncated", "the stream ended without [DONE]"),
        ("ends-early", "score", True, "truncated", "the lines ended without list.end"),
        ("cuts", "chat", True, "truncated", "Incomplete response"),
        ("cuts", "image", True, "truncated", "Incomplete response"),
        ("cuts", "score", True, "truncated", "Incomplete response"),
        ("cuts", "score", False, "truncated", "Incomplete response"),
        ("cuts", "speech", False, "truncated", "Incomplete response"),
    ],
)
def test_a_bad_answer_is_told_from_the_others(
    fake_fleet: FakeFleet, model: str, task: str, stream: bool, verdict: str, cause: str
) -> None:
    reply, _ = ask(fake_fleet, model, task, stream=stream)
    assert reply.verdict == verdict
    assert cause in reply.cause


def test_a_connection_serves_the_next_request_unless_an_answer_was_cut(fake_fleet: FakeFleet) -> None:
    modality = MODALITIES["chat"]
    with closing(Client(fake_fleet.url, connections=1)) as client:
        for model in ("good", "good", "breaks", "good", "refuses", "good"):
            found = modality.draw(wish(target=Target(model=model)))
            reply = client.post(modality.path, found.body, found.reader)
            assert reply.verdict == {"good": "answered", "breaks": "failed", "refuses": "refused"}[model]
    assert len(fake_fleet.connections) == 2


def test_a_key_and_a_deadline_are_sent(fake_fleet: FakeFleet) -> None:
    fake_fleet.key = "k"
    with closing(Client(fake_fleet.url, connections=1, key="k", deadline_s=1.5)) as client:
        assert client.get("/v1/models")
    assert fake_fleet.requests[-1].headers["x-castalia-deadline-ms"] == "1500"
    with (
        closing(Client(fake_fleet.url, connections=1)) as stranger,
        pytest.raises(Unreachable, match=r"401: .*invalid_api_key"),
    ):
        stranger.get("/v1/models")


def test_a_prefix_of_the_host_stays_before_the_path(fake_fleet: FakeFleet) -> None:
    found = MODALITIES["chat"].draw(wish(target=Target(model="wrong")))
    with closing(Client(f"{fake_fleet.url}/castalia/", connections=1)) as client:
        client.post("/v1/chat/completions", found.body, found.reader)
    assert fake_fleet.requests[-1].path == "/castalia/v1/chat/completions"


def test_a_server_that_is_not_there_is_a_failure() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        found = MODALITIES["chat"].draw(wish())
        reply = Client(url, connections=1).post("/v1/chat/completions", found.body, found.reader)
        assert (reply.verdict, reply.status) == ("failed", 0)
        assert "ConnectionRefusedError" in reply.cause
        with pytest.raises(Unreachable, match="ConnectionRefused"):
            Client(url, connections=1).get("/v1/models")


@pytest.mark.parametrize("host", ["", "127.0.0.1:8000", "ftp://h", "http://"])
def test_a_host_that_is_no_url_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="--host must be a URL"):
        Client(host, connections=1)
